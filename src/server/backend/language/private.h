/* The inside of a language model's service, for service.c, call.c and tokens.c. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "chat/token_trie.h"
#include "llm/dialogue.h"
#include "server/backend/language/counts.h"
#include "server/backend/language/language.h"

struct language {
    struct language_options options; /* complete once it is ready; .path is not kept */
    char *path;
    pthread_t loader;
    pthread_mutex_t lock; /* of `loaded`, `failure` and the making of `trie` */
    pthread_cond_t changed;
    bool loaded; /* or failed */
    struct error failure;
    char description[256];
    struct language_counts counts;
    atomic_bool ready;
    atomic_int pending; /* requests under way */
    /* Made before `ready`, and not changed after it. */
    struct llm_model *model;
    struct dialogue *dialogue;
    struct scheduler *scheduler;
    struct token_trie *trie; /* of the tokens' texts, for constraints: made when it is first needed */
};

/* Any thread. NULL: memory is out. */
const struct token_trie *language_trie(struct language *language, struct error *error);
/* False: has replied that the model is not loaded yet. */
bool language_check_ready(struct language *language, struct http_request *request);
