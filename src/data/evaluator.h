/* A model run over many photos, batch by batch, and how often it is right. One thread calls. */
#pragma once
#include "model/model.h"

#define EVALUATOR_TOP 5

struct hits {
    int count, first, five; /* photos of a known class; right at first; right among the best five */
    int before, after;      /* at first the class before the right one, or after it */
};

/* `best`: predictions [top], best first; `class_index` -1: not known, and not counted. */
void hits_add(struct hits *hits, const struct prediction *best, int top, int class_index);

/* What should be added to the class numbers, where most answers are a neighbour of the listed class: the list
 * or the model begins with a background class that the other does not have. 0: nothing. */
int hits_find_offset(const struct hits *hits);

/* What the model says of one photo: the best EVALUATOR_TOP predictions (or all, where it has fewer classes)
 * and the probabilities of all classes. They last until the function returns. */
struct evaluated_photo {
    size_t photo;                  /* the number that it was added with */
    const struct prediction *best; /* [top] */
    int top;
    const float *probabilities; /* [classes] */
};
typedef void (*evaluator_visit)(void *context, const struct evaluated_photo *photo);

struct evaluator;

/* `batch`: photos a run. The model must outlive it. */
struct evaluator *evaluator_create(struct model *model, int batch, evaluator_visit visit, void *context,
                                   struct error *error);
/* A photo that photo_prepare made; its tensor is copied. Runs the batch before it where that is full, or
 * where this photo has another size. */
bool evaluator_add(struct evaluator *evaluator, size_t photo, const void *tensor, int width, int height,
                   struct error *error);
/* Run what is left. */
bool evaluator_finish(struct evaluator *evaluator, struct error *error);
void evaluator_free(struct evaluator *evaluator);
