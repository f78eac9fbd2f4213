/* Any bytes as a JSON Schema and, behind a NUL, choices: each picks one of the bytes that may come next.
 * There must always be one, or the text may end; and a byte that the mask allows must be one that the text
 * may go on with. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "chat/constraint.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { BYTES = 256, STEPS = 60 };

static struct token_trie *every_byte(void) {
    static char texts[BYTES];
    struct token_text tokens[BYTES];
    struct error error;
    for (int i = 0; i < BYTES; i++) {
        texts[i] = (char)i;
        tokens[i] = (struct token_text){&texts[i], 1};
    }
    return token_trie_create(tokens, BYTES, &error);
}

/* The `choice`th of the bytes that are allowed, round and round; -1: none is. */
static int choose(const float *logits, uint8_t choice) {
    for (int i = 0, seen = 0; i < 2 * BYTES * BYTES; i++)
        if (isfinite(logits[i % BYTES]) && seen++ == choice)
            return i % BYTES;
        else if (i == BYTES && !seen)
            return -1;
    return -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static struct token_trie *trie;
    struct error error = {0};
    const char *text = size ? (const char *)bytes : "", *nul = memchr(text, 0, size);
    size_t length = nul ? (size_t)(nul - text) : size;
    struct constraint *constraint = constraint_create(text, length, &error);
    struct constraint_state *state = constraint ? constraint_state_create(constraint) : NULL;
    trie = trie ? trie : every_byte();

    for (size_t i = length + 1; state && trie && i < size && i < length + STEPS; i++) {
        float logits[BYTES] = {0};
        if (!constraint_mask(state, trie, NULL, 0, logits)) {
            if (!constraint_can_end(state))
                abort();
            break;
        }
        int byte = choose(logits, bytes[i]);
        char next = (char)byte;
        if (byte < 0 || !constraint_advance(state, &next, 1))
            abort();
    }
    constraint_state_free(state);
    constraint_free(constraint);
    return 0;
}
