/* Inside model/: does a photo show one of the model's classes at all? A rule that was calibrated on photos of
 * other things (tools/calibrate_rejection) stands in the folder's rejection.json:
 *
 *     {"method": "linear", "bias": b, "odds": a, "weights": [w_0, …], "unknown_below": u, "sure_from": s}
 *
 * The value of a photo is b + a * log(p / (1 - p)) + sum of w_i * x_i: p is the probability of the best
 * class, x_i are the scores as the network gives them. Below u the model does not know what the photo shows;
 * from s on its answer may be believed. Any thread. */
#pragma once
#include "base/arena.h"
#include "base/error.h"
#include "model/model.h"

struct rejection {
    const double *weights; /* [classes]; NULL: the folder has no rule */
    double bias, odds, unknown_below, sure_from;
};

/* Without the file, *ret has no rule. ERROR_MODEL names the file and the field. */
bool rejection_load(const char *folder, int classes, struct arena *arena, struct rejection *ret,
                    struct error *error);

/* `scores`: [classes] as the network gives them, `best`: the largest probability. */
enum model_knows rejection_judge(const struct rejection *rejection, const double *scores, int classes,
                                 double best);
