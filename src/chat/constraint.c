#include "chat/constraint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "chat/constraint_internal.h"
#include "chat/positions.h"
#include "chat/schema.h"
#include "chat/string_steps.h"

struct constraint {
    struct automaton automaton;
};

struct constraint_state {
    struct positions positions;
    uint64_t *allowed; /* [(trie->count + 63) / 64]: bits; while a mask is made */
    size_t words;
};

/* --- Constraints ------------------------------------------------------------------------------------------
 */

struct constraint *constraint_build(json_t *root, constraint_builder build, void *data, struct error *error) {
    struct constraint *constraint = calloc(1, sizeof *constraint);
    struct schema_reader *reader = NULL;
    if (constraint) {
        automaton_init(&constraint->automaton);
        reader = schema_reader_create(&constraint->automaton, root);
    }
    if (!reader) {
        constraint_free(constraint);
        error_set(error, ERROR_MEMORY, "not enough memory for the schema");
        return NULL;
    }

    struct automaton *automaton = &constraint->automaton;
    uint32_t end = automaton_node(automaton, NODE_END, NO_NODE, 0, 0);
    automaton->start = build(automaton, reader, end, data);
    bool done = schema_reader_finish(reader, error) && automaton_check(automaton, error);
    schema_reader_free(reader);
    if (done)
        return constraint;
    constraint_free(constraint);
    return NULL;
}

/* data: the schema; NULL: any object. */
static uint32_t one_value(struct automaton *automaton, struct schema_reader *reader, uint32_t end,
                          void *data) {
    uint32_t rule = schema_rule(reader, data, "#");
    return automaton_node(automaton, NODE_CALL, end, rule, 0);
}

struct constraint *constraint_create(const char *schema, size_t size, struct error *error) {
    struct memory_charge charge = {0};
    struct constraint *constraint = NULL;
    if (size > LIMIT_SCHEMA_BYTES) {
        error_set(error, ERROR_TOO_LARGE, "the schema has %zu bytes, more than %d", size, LIMIT_SCHEMA_BYTES);
        return NULL;
    }

    json_t *root = json_parse(schema, size, NULL, &charge, error);
    if (root && !json_is_object(root))
        error_set(error, ERROR_INVALID, "the schema is no object");
    else if (root)
        constraint = constraint_build(root, one_value, root, error);
    json_release(root, &charge);
    return constraint;
}

struct constraint *constraint_create_object(struct error *error) {
    return constraint_build(NULL, one_value, NULL, error);
}

void constraint_free(struct constraint *constraint) {
    if (!constraint)
        return;
    automaton_release(&constraint->automaton);
    free(constraint);
}

/* --- States -----------------------------------------------------------------------------------------------
 */

struct constraint_state *constraint_state_create(const struct constraint *constraint) {
    struct constraint_state *state = calloc(1, sizeof *state);
    if (state && positions_init(&state->positions, &constraint->automaton))
        return state;
    constraint_state_free(state);
    return NULL;
}

struct constraint_state *constraint_state_copy(const struct constraint_state *state) {
    struct constraint_state *copy = calloc(1, sizeof *copy);
    if (copy && positions_copy(&copy->positions, &state->positions))
        return copy;
    constraint_state_free(copy);
    return NULL;
}

void constraint_state_free(struct constraint_state *state) {
    if (!state)
        return;
    positions_release(&state->positions);
    free(state->allowed);
    free(state);
}

/* Forget all sets but the first. */
static void rewind_to(struct positions *positions, size_t used, size_t frames) {
    positions->used = used;
    positions->frames_used = frames;
}

bool constraint_advance(struct constraint_state *state, const char *bytes, size_t size) {
    struct positions *positions = &state->positions;
    size_t start = 0, end = positions->count, frames = positions->frames_used;

    for (size_t i = 0; i < size; i++) {
        size_t count = positions_step(positions, start, end, (uint8_t)bytes[i]);
        if (!count) {
            rewind_to(positions, positions->count, frames);
            return false;
        }
        start = positions->used - count;
        end = positions->used;
    }
    positions_keep(positions, start, end);
    return true;
}

bool constraint_can_end(const struct constraint_state *state) {
    const struct positions *positions = &state->positions;
    for (size_t i = 0; i < positions->count; i++)
        if (positions->automaton->nodes[positions->items[i].node].op == NODE_END)
            return true;
    return false;
}

bool constraint_must_end(const struct constraint_state *state) {
    return state->positions.count == 1 && constraint_can_end(state);
}

/* --- Masks ------------------------------------------------------------------------------------------------
 */

static void allow(struct constraint_state *state, const struct token_trie *trie, int32_t token) {
    for (; token >= 0; token = trie->same[token])
        state->allowed[token / 64] |= 1ull << token % 64;
}

/* All tokens below a node that go on from items[start, end). As deep as tokens are long. */
static void walk(struct constraint_state *state, const struct token_trie *trie, uint32_t node, size_t start,
                 size_t end) {
    struct positions *positions = &state->positions;
    size_t used = positions->used, frames = positions->frames_used;

    for (uint32_t child = trie->nodes[node].child; child; child = trie->nodes[child].sibling) {
        size_t count = positions_step(positions, start, end, trie->nodes[child].byte);
        if (count) {
            allow(state, trie, trie->nodes[child].token);
            walk(state, trie, child, positions->used - count, positions->used);
        }
        rewind_to(positions, used, frames);
    }
}

/* Within a string, most tokens of a vocabulary are allowed as they are: only the others are walked. */
static bool allow_plain(struct constraint_state *state, const struct token_trie *trie) {
    const struct positions *positions = &state->positions;
    const struct position *only = &positions->items[0];
    const struct automaton_node *node = &positions->automaton->nodes[only->node];
    if (positions->count != 1 || node->op != NODE_TEXT || only->step != STRING_START)
        return false;

    uint32_t most = node->b == UINT32_MAX ? UINT32_MAX : node->b - only->count;
    for (int32_t token = 0; token < trie->count; token++)
        if (trie->plain[token] && trie->plain[token] <= most)
            state->allowed[token / 64] |= 1ull << token % 64;
    return true;
}

bool constraint_mask(struct constraint_state *state, const struct token_trie *trie, const int32_t *ends,
                     int end_count, float *logits) {
    size_t words = (size_t)trie->count / 64 + 1;
    if (words > state->words) {
        free(state->allowed);
        state->allowed = malloc(words * sizeof *state->allowed);
        state->words = state->allowed ? words : 0;
        if (!state->allowed)
            return false;
    }
    memset(state->allowed, 0, words * sizeof *state->allowed);

    walk(state, trie, allow_plain(state, trie), 0, state->positions.count);
    for (int i = 0; i < end_count; i++)
        if (ends[i] >= 0 && ends[i] < trie->count) {
            uint64_t bit = 1ull << ends[i] % 64;
            state->allowed[ends[i] / 64] &= ~bit;
            state->allowed[ends[i] / 64] |= constraint_can_end(state) ? bit : 0;
        }

    bool any = false;
    for (int32_t token = 0; token < trie->count; token++) {
        if (state->allowed[token / 64] >> token % 64 & 1)
            any = true;
        else
            logits[token] = -INFINITY;
    }
    return any;
}
