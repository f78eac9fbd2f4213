/* One request to a language model, from its body to its reply, and the answers that are written for it.
 *
 *     loop: call_start ─► worker: fields, template, tokens ─► scheduler: take, done ─► loop: pieces, end
 *
 * It is freed on its loop, with its reply, once nothing is written for it any more. */
#pragma once
#include "server/backend/language/private.h"
#include "server/backend/language/text.h"
#include "server/backend/language/write.h"

struct call;

/* One answer. */
struct choice {
    struct generation generation;
    struct call *call;
    int index;
    /* The scheduler's thread's: */
    struct answer_text text;
    struct thought thought;
    bool thinks;
    int64_t characters;                  /* of the answer so far */
    struct constraint_state *constraint; /* what may come next; NULL: anything */
    bool is_stuck;                       /* nothing may */
    int64_t first_ns;                    /* clock_ns() of the first token; 0: none yet */
    bool failed;                         /* memory is out */
    /* With the call's lock: */
    struct answer_part part; /* what was not sent yet */
    const char *finish;      /* why it has ended; NULL: it has not */
    /* The loop's: */
    bool has_begun, has_ended;
};

struct call {
    struct language *language;
    struct http_request *request;
    struct http_loop *loop;
    struct work work;
    struct http_body *body;
    json_t *json;
    struct memory_charge tree, tokens;
    struct language_fields fields;
    struct answer_head head;
    struct token_list *prompts; /* [prompt_count] */
    size_t prompt_count;
    bool prompt_thinks;
    const struct token_trie *trie; /* where there is a constraint */
    uint64_t client, scope;        /* whose request it is, and with whose it shares prompts */
    /* The loop's: */
    struct http_timer *timer;
    bool gone, begun;

    pthread_mutex_t lock;
    struct choice *choices; /* [choice_count], each prompt's `n` side by side */
    int choice_count;
    int unfinished; /* choices */
    bool cancelled;
    bool posted; /* the loop is about to look at it */
    struct error failure;
};

/* choices.c. The choices of a call whose prompts are there, and their scheduling. False, with the reason. */
bool call_submit(struct call *call, struct error *error);
void call_free_choices(struct call *call);

/* prompts.c. Whose request it is: sets client and scope. False when memory is out. */
bool call_find_client(struct call *call, struct error *error);

/* prompts.c. The prompts of a call whose fields are read, as tokens that fit the context. */
bool call_read_prompts(struct call *call, struct error *error);

/* call.c. With the lock, which is released: have the loop look at it. */
void call_post(struct call *call);
