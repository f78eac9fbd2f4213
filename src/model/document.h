/* The predictions for a photo as a JSON object: a line of `guichet classify --json`, and the body of
 * /predict. */
#pragma once
#include "base/buffer.h"
#include "model/model.h"

struct prediction_document {
    const struct model *model;
    const char *name;                     /* of the model */
    const char *image;                    /* a path or URL; NULL: none is known */
    const char *language;                 /* of the labels, as for model_label */
    const struct prediction *predictions; /* [count], one at least */
    int count;
    struct timing timing;
    double queue_ms; /* of a service: how long the photo waited for the model */
    int batch;       /* of a service: photos in its run */
};

/* Compact, numbers rounded to so many decimals, no newline. A failure shows in text->failed. Any thread. */
void prediction_document_write_line(const struct prediction_document *document, struct buffer *text);

/* As the service replies: with queue_ms, batch and precision, and a newline. */
void prediction_document_write_body(const struct prediction_document *document, struct buffer *text);
