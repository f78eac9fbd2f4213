/* Inside teach/: photos in folders, a class a folder. */
#pragma once
#include "data/photo_list.h"

struct teach_classes {
    char **names; /* [count], sorted */
    int *photos;  /* [count] how many each has in the list */
    int count;
    size_t outside; /* photos right in the folder, which belong to no class and were dropped */
};

#define TEACH_CLASSES_MOST 1000
#define TEACH_PHOTOS_MOST 100000

/* The photos of the folders in `folder`, the class of each set. ERROR_INVALID: fewer than two folders with
 * photos, or one photo alone in one; ERROR_TOO_LARGE: more than TEACH_CLASSES_MOST or TEACH_PHOTOS_MOST. */
bool teach_classes_read(const char *folder, struct photo_list *ret_list, struct teach_classes *ret,
                        struct error *error);
void teach_classes_release(struct teach_classes *classes);
