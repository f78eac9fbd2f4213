/* Engines within an engine: for what comes after a plan, and for the bodies of branches and loops. Used
 * inside engine/ only. */
#pragma once
#include "engine/engine.h"

struct graph;
/* An engine for a part of the parent's network, or (to be simplified first) a body in it, whose operators are
 * bound. Takes the graph over. No input decides its shapes: nodes that need its value wait for it. */
struct engine *engine_create_part(struct engine *parent, struct graph *graph, bool simplify,
                                  struct error *error);
/* The one engine of a body; any thread. */
struct engine *engine_find_body(struct engine *engine, const struct graph *body, struct error *error);
