#include "chat/positions.h"

#include <stdlib.h>
#include <string.h>

#include "chat/string_steps.h"

/* Positions of one set, and moves without reading that one byte may cause. Where a schema is so ambiguous
 * that there would be more, the others are dropped: whatever is left can still be completed. */
enum { MOST_POSITIONS = 64, MOST_MOVES = 2048, SPACES = 33 };

/* --- Memory ------------------------------------------------------------------------------------------------
 */

static void *room(void *array, size_t used, size_t *capacity, size_t size) {
    if (used < *capacity)
        return array;
    size_t larger = *capacity ? 2 * *capacity : 64;
    void *grown = realloc(array, larger * size);
    if (grown)
        *capacity = larger;
    return grown;
}

static bool add_position(struct positions *positions, const struct position *position) {
    struct position *grown =
        room(positions->items, positions->used, &positions->capacity, sizeof *positions->items);
    if (!grown)
        return false;
    positions->items = grown;
    positions->items[positions->used++] = *position;
    return true;
}

/* UINT32_MAX: no memory. */
static uint32_t add_frame(struct positions *positions, struct position_frame frame) {
    struct position_frame *grown = room(positions->frames, positions->frames_used, &positions->frame_capacity,
                                        sizeof *positions->frames);
    if (!grown)
        return UINT32_MAX;
    positions->frames = grown;
    positions->frames[positions->frames_used] = frame;
    return (uint32_t)positions->frames_used++;
}

void positions_release(struct positions *positions) {
    free(positions->items);
    free(positions->frames);
    *positions = (struct positions){0};
}

bool positions_copy(struct positions *ret, const struct positions *from) {
    *ret = *from;
    ret->items = malloc((from->count + 1) * sizeof *ret->items);
    ret->frames = malloc((from->frames_used + 1) * sizeof *ret->frames);
    ret->used = from->count;
    ret->capacity = from->count + 1;
    ret->frame_capacity = from->frames_used + 1;
    if (!ret->items || !ret->frames)
        return false;
    if (from->count)
        memcpy(ret->items, from->items, from->count * sizeof *ret->items);
    memcpy(ret->frames, from->frames, from->frames_used * sizeof *ret->frames);
    return true;
}

/* --- Moves without reading --------------------------------------------------------------------------------
 */

struct moving {
    struct positions *positions;
    size_t start; /* of the set that is being made */
    int moves;
};

static bool same_frames(const struct positions *positions, uint32_t a, uint32_t b) {
    const struct position_frame *frames = positions->frames;

    while (a != b) {
        if (frames[a].back != frames[b].back || frames[a].count != frames[b].count ||
            frames[a].seen != frames[b].seen)
            return false;
        a = frames[a].parent;
        b = frames[b].parent;
    }
    return true;
}

static void arrive(struct moving *moving, const struct position *position) {
    const struct positions *positions = moving->positions;
    if (positions->used - moving->start >= MOST_POSITIONS)
        return;

    for (size_t i = moving->start; i < positions->used; i++) {
        const struct position *other = &positions->items[i];
        if (other->node == position->node && other->depth == position->depth &&
            other->step == position->step && other->word == position->word &&
            other->count == position->count && other->allowed == position->allowed &&
            same_frames(positions, other->frame, position->frame))
            return;
    }
    add_position(moving->positions, position);
}

/* The keys that may come: not those that have been, nor those whose values would nest too deep. */
static uint64_t allowed_keys(const struct positions *positions, const struct position *position,
                             const struct automaton_object *object) {
    uint64_t seen = positions->frames[position->frame].seen, allowed = 0;

    for (int i = 0; object && i < object->count; i++)
        if (!(seen >> i & 1) &&
            position->depth + automaton_rule_need(positions->automaton, object->rules[i]) <= CONSTRAINT_DEPTH)
            allowed |= 1ull << i;
    return allowed;
}

static bool free_key_fits(const struct automaton *automaton, const struct position *position,
                          const struct automaton_object *object) {
    return object && object->free_value &&
           position->depth + automaton_rule_need(automaton, object->free_rule) <= CONSTRAINT_DEPTH;
}

/* Change the topmost frame. */
static bool replace_frame(struct positions *positions, struct position *position,
                          struct position_frame frame) {
    position->frame = add_frame(positions, frame);
    return position->frame != UINT32_MAX;
}

static bool call(struct positions *positions, struct position *position, const struct automaton_node *node) {
    if (position->depth + 1 + positions->automaton->nodes[node->a].need > CONSTRAINT_DEPTH)
        return false;
    position->depth++;
    position->node = node->a;
    return replace_frame(positions, position, (struct position_frame){position->frame, node->next, 0, 0});
}

/* Before a node that reads: where its reading begins. False: nothing can be read. */
static bool begin_reading(const struct positions *positions, struct position *position,
                          const struct automaton_node *node) {
    const struct automaton *automaton = positions->automaton;
    const struct automaton_object *object =
        node->op == NODE_KEY || node->op == NODE_FREE ? &automaton->objects[node->a] : NULL;

    position->word = object ? object->words : node->op == NODE_WORD ? node->a : 0;
    position->count = 0;
    position->step = 0;
    position->allowed = node->op == NODE_KEY ? allowed_keys(positions, position, object) : 0;
    return node->op == NODE_KEY    ? position->allowed != 0
           : node->op == NODE_FREE ? free_key_fits(automaton, position, object)
                                   : true;
}

/* One step to the next node. False where the way ends. */
static bool move(struct positions *positions, struct position *position, const struct automaton_node *node) {
    const struct automaton *automaton = positions->automaton;
    struct position_frame frame = positions->frames[position->frame];

    switch (node->op) {
    case NODE_CALL:
        return call(positions, position, node);
    case NODE_RETURN:
        position->node = frame.back;
        position->frame = frame.parent;
        position->depth--;
        return true;
    case NODE_COUNT:
        frame.count += frame.count < UINT32_MAX;
        position->node = node->next;
        return replace_frame(positions, position, frame);
    case NODE_LEAST:
        position->node = node->next;
        return frame.count >= node->a;
    case NODE_MOST:
        position->node = node->next;
        return frame.count < node->a;
    case NODE_CLOSE:
        position->node = node->next;
        return !(automaton->objects[node->a].required & ~frame.seen);
    case NODE_MORE:
        position->node = node->next;
        return allowed_keys(positions, position, &automaton->objects[node->a]) ||
               free_key_fits(automaton, position, &automaton->objects[node->a]);
    default:
        position->node = node->next;
        return node->op == NODE_JUMP;
    }
}

/* Go on until something must be read, along all ways. */
static void go(struct moving *moving, struct position position) {
    const struct automaton *automaton = moving->positions->automaton;

    while (moving->moves++ < MOST_MOVES) {
        const struct automaton_node *node = &automaton->nodes[position.node];
        if (node->op == NODE_END || node->op < NODE_JUMP) {
            if (!begin_reading(moving->positions, &position, node))
                return;
            arrive(moving, &position);
            if (node->op != NODE_SPACE)
                return;
            position.node = node->next;
            continue;
        }
        if (node->op == NODE_SPLIT) {
            for (uint32_t i = 1; i < node->b; i++) {
                struct position other = position;
                other.node = automaton->edges[node->a + i];
                go(moving, other);
            }
            position.node = automaton->edges[node->a];
        } else if (!move(moving->positions, &position, node)) {
            return;
        }
    }
}

/* --- Reading ----------------------------------------------------------------------------------------------
 */

static void go_on(struct moving *moving, struct position position, uint32_t node) {
    position.node = node;
    go(moving, position);
}

static void read_word(struct moving *moving, struct position position, const struct automaton_node *node,
                      uint8_t byte) {
    const struct automaton *automaton = moving->positions->automaton;
    position.word = automaton_word_next(automaton, position.word, byte);
    if (!position.word)
        return;

    const struct word_node *word = &automaton->words[position.word];
    if (word->child)
        arrive(moving, &position);
    if (word->word >= 0)
        go_on(moving, position, node->next);
}

static void read_key(struct moving *moving, struct position position, const struct automaton_node *node,
                     uint8_t byte) {
    const struct automaton *automaton = moving->positions->automaton;
    position.word = automaton_word_next(automaton, position.word, byte);
    if (!position.word || !(automaton->words[position.word].below & position.allowed))
        return;

    int32_t key = automaton->words[position.word].word;
    if (key < 0) {
        arrive(moving, &position);
        return;
    }
    struct position_frame frame = moving->positions->frames[position.frame];
    frame.seen |= 1ull << key;
    if (replace_frame(moving->positions, &position, frame))
        go_on(moving, position, automaton->objects[node->a].values[key]);
}

/* A key that is none of the tree's. It is not written with \u and digits, so that each key has one spelling.
 */
static void read_free(struct moving *moving, struct position position, const struct automaton_node *node,
                      uint8_t byte) {
    const struct automaton *automaton = moving->positions->automaton;
    uint32_t word = position.word ? automaton_word_next(automaton, position.word, byte) : 0;

    if (position.step == STRING_START && byte == '"') {
        if (!word)
            go_on(moving, position, automaton->objects[node->a].free_value);
        return;
    }
    if (position.step == STRING_ESCAPE && (byte == 'u' || byte == '/'))
        return;
    position.word = word;
    position.step = string_step(position.step, byte);
    if (position.step != STRING_NONE)
        arrive(moving, &position);
}

static void read_text(struct moving *moving, struct position position, const struct automaton_node *node,
                      uint8_t byte) {
    if (position.step == STRING_START && byte == '"') {
        if (position.count >= node->a)
            go_on(moving, position, node->next);
        return;
    }
    if (position.step == STRING_START && position.count >= node->b)
        return;
    position.step = string_step(position.step, byte);
    if (position.step == STRING_START && (node->b != UINT32_MAX || position.count < node->a))
        position.count++;
    if (position.step != STRING_NONE)
        arrive(moving, &position);
}

static void read_char(struct moving *moving, struct position position, const struct automaton_node *node,
                      uint8_t byte) {
    const struct byte_set *set = &moving->positions->automaton->sets[node->a];
    uint8_t step = string_step(position.step, byte);

    if (position.step == STRING_START && step == STRING_START && !byte_set_has(set, byte))
        return;
    if (position.step == STRING_START && byte >= 0x80 && !node->b)
        return;
    if (position.step == STRING_ESCAPE && (byte == 'u' || byte == '/' || !string_escaped(byte) ||
                                           !byte_set_has(set, (uint8_t)string_escaped(byte))))
        return;
    if (position.step == STRING_START && step == STRING_ESCAPE) {
        bool any = false;
        for (const char *c = "\"\\\b\f\n\r\t"; *c; c++)
            any |= byte_set_has(set, (uint8_t)*c);
        if (!any)
            return;
    }
    position.step = step;
    if (step == STRING_START)
        go_on(moving, position, node->next);
    else if (step != STRING_NONE)
        arrive(moving, &position);
}

static void read_space(struct moving *moving, struct position position, const struct automaton_node *node,
                       uint8_t byte) {
    if (position.count == 0 && byte == ' ') {
        go_on(moving, position, node->next);
    } else if ((position.count == 0 && byte == '\n') ||
               (position.count > 0 && position.count < SPACES && (byte == ' ' || byte == '\t'))) {
        position.count++;
        arrive(moving, &position);
        go_on(moving, position, node->next);
    }
}

size_t positions_step(struct positions *positions, size_t start, size_t end, uint8_t byte) {
    struct moving moving = {positions, positions->used, 0};

    for (size_t i = start; i < end; i++) {
        struct position position = positions->items[i];
        const struct automaton_node *node = &positions->automaton->nodes[position.node];
        switch (node->op) {
        case NODE_BYTES:
            if (byte_set_has(&positions->automaton->sets[node->a], byte))
                go_on(&moving, position, node->next);
            break;
        case NODE_WORD:
            read_word(&moving, position, node, byte);
            break;
        case NODE_KEY:
            read_key(&moving, position, node, byte);
            break;
        case NODE_FREE:
            read_free(&moving, position, node, byte);
            break;
        case NODE_TEXT:
            read_text(&moving, position, node, byte);
            break;
        case NODE_CHAR:
            read_char(&moving, position, node, byte);
            break;
        case NODE_SPACE:
            read_space(&moving, position, node, byte);
            break;
        default:
            break;
        }
    }
    return positions->used - moving.start;
}

/* --- Sets -------------------------------------------------------------------------------------------------
 */

bool positions_init(struct positions *positions, const struct automaton *automaton) {
    *positions = (struct positions){.automaton = automaton};
    if (add_frame(positions, (struct position_frame){0}) == UINT32_MAX) /* the bottom: it is its own parent */
        return false;

    struct moving moving = {positions, 0, 0};
    go(&moving, (struct position){.node = automaton->start});
    positions->count = positions->used;
    return positions->count > 0;
}

/* A frame with all below it, in another place; UINT32_MAX: no memory. */
static uint32_t copy_frames(struct positions *to, const struct positions *from, uint32_t frame) {
    uint32_t chain[CONSTRAINT_DEPTH], depth = 0, copied = 0;
    for (; frame && depth < CONSTRAINT_DEPTH; frame = from->frames[frame].parent)
        chain[depth++] = frame;

    while (depth-- && copied != UINT32_MAX) {
        struct position_frame copy = from->frames[chain[depth]];
        copy.parent = copied;
        copied = add_frame(to, copy);
    }
    return copied;
}

void positions_keep(struct positions *positions, size_t start, size_t end) {
    memmove(positions->items, positions->items + start, (end - start) * sizeof *positions->items);
    positions->used = positions->count = end - start;

    /* Only frames that are in use stay; without the memory for that, all of them. */
    struct positions kept = {0};
    uint32_t frames[MOST_POSITIONS];
    bool fits = add_frame(&kept, (struct position_frame){0}) != UINT32_MAX;
    for (size_t i = 0; fits && i < positions->count; i++) {
        frames[i] = copy_frames(&kept, positions, positions->items[i].frame);
        fits = frames[i] != UINT32_MAX;
    }
    if (!fits) {
        free(kept.frames);
        return;
    }
    for (size_t i = 0; i < positions->count; i++)
        positions->items[i].frame = frames[i];
    free(positions->frames);
    positions->frames = kept.frames;
    positions->frames_used = kept.frames_used;
    positions->frame_capacity = kept.frame_capacity;
}
