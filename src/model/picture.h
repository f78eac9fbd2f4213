/* A network's output as a picture: a mask, a larger or changed photo, depth. No file says what such an output
 * means, so it is taken by its shape and values, and `meaning` tells how. Pure functions: any thread. */
#pragma once
#include <stdint.h>

#include "base/error.h"
#include "tensor/tensor.h"

enum { PICTURE_CLASSES = 256 /* of a mask, at most */ };

struct picture {
    uint8_t *pixels;                 /* [height, width, channels]; malloc'ed */
    int width, height, channels;     /* 1: grey, 3: RGB */
    char meaning[160];               /* layout and range, for a person */
    bool is_mask;                    /* pixels have the colors of classes */
    int64_t counts[PICTURE_CLASSES]; /* of a mask: pixels of each class */
};

/* The tensor is [1, 1|3, h, w] or [1, h, w, 1|3]; [1, k, h, w], a mask, where each pixel is of the class with
 * the largest value (the first of equal ones); or [1, h, w] with the aspect of the photo that was put in
 * (`width` x `height`), which other tables of numbers do not have. One channel of integers wider than uint8
 * is a mask of class numbers. Other values are taken to be in 0..1, -1..1 or 0..255, up to a twentieth beyond
 * and cut there, else from their smallest to their largest. ERROR_INVALID: it is no picture, or some of its
 * values are not finite; ERROR_MEMORY. */
bool picture_make(const struct tensor *tensor, int width, int height, struct picture *ret,
                  struct error *error);
void picture_release(struct picture *picture);

/* The color of a class in a mask: black for class 0, then far apart from its neighbours. */
void picture_class_color(int class_index, uint8_t ret[3]);
