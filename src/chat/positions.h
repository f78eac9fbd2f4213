/* Where in an automaton a text may be: a few positions at once, each with its stack. Used inside chat/ only.
 * One thread at a time. */
#pragma once
#include "chat/automaton.h"

/* A rule that has been called. Frames do not change; they are shared. */
struct position_frame {
    uint32_t parent; /* the frame of the caller */
    uint32_t back;   /* where it goes on after the rule */
    uint32_t count;  /* items of an array */
    uint64_t seen;   /* keys of an object */
};

struct position {
    uint32_t node, frame;
    uint32_t word;    /* in a tree of words */
    uint32_t count;   /* characters of a string */
    uint64_t allowed; /* keys that may come */
    uint8_t depth, step;
};

struct positions {
    const struct automaton *automaton;
    struct position *items; /* a stack of sets; [0, count) is the first */
    struct position_frame *frames;
    size_t used, frames_used, capacity, frame_capacity;
    size_t count;
};

/* The beginning. False when memory is out. Released also after a failure. */
bool positions_init(struct positions *positions, const struct automaton *automaton);
void positions_release(struct positions *positions);
bool positions_copy(struct positions *ret, const struct positions *from);

/* Put the set that follows items[start, end) by `byte` on the stack; how many positions it has: 0 where the
 * byte may not come. */
size_t positions_step(struct positions *positions, size_t start, size_t end, uint8_t byte);
/* Go on with items[start, end): they become the first set, and what else there was is forgotten. */
void positions_keep(struct positions *positions, size_t start, size_t end);
