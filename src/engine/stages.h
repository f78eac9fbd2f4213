/* What comes after a plan where shapes follow from what it computes: nodes that are inferred and computed one
 * by one, branches and loops among them, and an engine for the rest of the network, whose inputs are their
 * results. A stage is immutable and shared; a run of it belongs to one context. Used inside engine/ only. */
#pragma once
#include "engine/engine.h"
#include "passes/passes.h"
#include "plan/plan.h"

struct stage;
/* Takes over `whole` and the parts but their head, whose outputs' ids it keeps. On failure it frees them. */
struct stage *stage_create(struct engine *engine, struct graph *whole, struct graph_parts *parts,
                           struct error *error);
void stage_free(struct stage *stage);

struct stage_run;
struct stage_run *stage_run_create(const struct stage *stage, struct error *error);
void stage_run_free(struct stage_run *run);
/* inputs: the model's; head: what the plan's outputs point at. outputs[i]: views, right until the next run.
 */
bool stage_run_execute(struct stage_run *run, const struct plan *plan, const struct tensor *inputs,
                       const void *const *head, struct tensor *outputs, int output_count,
                       struct error *error);

/* --- For control.c --- */

/* Memory that lives until the run's next execution; NULL when memory is out. */
void *stage_run_own(struct stage_run *run, size_t bytes);
/* What the run has for input `index` of a node; NULL for one left out. */
const struct tensor *stage_run_input(const struct stage_run *run, const struct node *node, int index);
/* Something after the node, or the caller, takes its output. */
bool stage_run_wants(const struct stage_run *run, const struct node *node, int output);
/* One turn of a body: `formal` [formal_count] are its own inputs, the others come from around the node.
 * outputs [the body's]: views, right until the body's next turn. */
bool stage_run_body(struct stage_run *run, const struct node *node, const struct attribute *body,
                    const struct tensor *formal, struct tensor *outputs, struct error *error);
/* If, Loop and Scan: ret[i] for each output of the node. */
bool control_run(struct stage_run *run, const struct node *node, struct tensor *ret, struct error *error);
