/* Answers of a language model as OpenAI's JSON: whole ones, and chunks of a stream. Pure functions. */
#pragma once
#include <time.h>

#include "llm/generation.h"
#include "server/backend/language/fields.h"
#include "tokenizer/tokenizer.h"

/* What every document of one answer begins with. */
struct answer_head {
    enum language_route route;
    char id[40];
    time_t created;
    const char *model;
    bool tells_usage; /* a stream: in an event of its own, and null in the others */
};

/* A call of a tool, or what is new of it. */
struct answer_call {
    size_t index;
    char id[32];
    char *name;              /* malloc'ed; NULL: it was told before */
    struct buffer arguments; /* JSON */
};

/* What a choice has to tell: all of it, or what is new. A zeroed struct is empty. */
struct answer_part {
    struct answer_call *calls; /* [call_count] */
    size_t call_count;
    struct buffer content, thoughts; /* UTF-8 */
    bool has_chances;
    /* Members of JSON arrays. Of a chat the first alone: objects; of a completion tokens, their logarithms,
     * alternatives, offsets. */
    struct buffer chances[4];
};
void answer_part_release(struct answer_part *part);
bool answer_part_is_empty(const struct answer_part *part);
/* Add the probabilities of a token, which begins `offset` characters into the answer. */
void answer_part_add_chances(struct answer_part *part, enum language_route route,
                             const struct tokenizer *tokenizer, const struct generated_token *token,
                             int64_t offset);

/* Add a call, and to the arguments of the call of that number. False when memory is out. */
bool answer_part_add_call(struct answer_part *part, size_t index, const char *id, const char *name);
bool answer_part_add_arguments(struct answer_part *part, size_t index, const char *text, size_t size);

struct answer_usage {
    int64_t prompt, shared, written; /* tokens */
};

/* One event of a stream. `begins`: the first of its choice; finish NULL: it goes on. */
void answer_write_chunk(struct buffer *text, const struct answer_head *head, int index,
                        const struct answer_part *part, bool begins, const char *finish);
void answer_write_usage_chunk(struct buffer *text, const struct answer_head *head,
                              const struct answer_usage *usage);
/* A whole answer: its beginning, each choice, its end. */
void answer_write_begin(struct buffer *text, const struct answer_head *head);
void answer_write_choice(struct buffer *text, const struct answer_head *head, int index,
                         const struct answer_part *part, const char *finish);
void answer_write_end(struct buffer *text, const struct answer_usage *usage);
