/* Inside teach/: the network that classes are taught to. Its last layer, a dense one (Gemm, MatMul, or a
 * convolution of single pixels), is what told its classes apart; what that layer reads are the features. */
#pragma once
#include "graph/graph.h"
#include "model/model.h"

struct teach_none; /* none.h */

struct teach_network {
    struct graph *graph;    /* simplified, its outputs as they were */
    struct node *layer;     /* the last layer */
    struct value *features; /* its input */
    /* NULL; or the value that holds the scores, where what is behind the layer puts several rows together for
     * each photo (a photo and its mirror image, say): it does the same with the features, being linear. */
    struct value *gathered;
    bool flat;   /* they are [n, width] already */
    bool pixels; /* the last layer was a convolution: they are averaged over the photo first */
    int width;
};

/* ERROR_INVALID: it is quantised; ERROR_MODEL: it does not end in such a layer, or takes fixed batches of
 * several photos. */
bool teach_network_open(const struct model *model, struct teach_network *ret, struct error *error);
void teach_network_release(struct teach_network *network);

/* A bound graph with one output, "features": float32 [n, width]. The network must outlive it. */
struct graph *teach_network_features(const struct teach_network *network, struct error *error);

/* The last layer to be. */
struct teach_layer {
    const float *weights; /* [width, classes] */
    const float *bias;    /* [classes] */
    int classes;
    const struct teach_none *none; /* NULL: no class for what resembles none of the others (none.h) */
};

/* The same with a new last layer: one output, "logits", float32 [n, classes] = features·weights + bias; with
 * layer->none [n, classes + 1]. What the layer points at must outlive the graph, too. */
struct graph *teach_network_with_head(const struct teach_network *network, const struct teach_layer *layer,
                                      struct error *error);
