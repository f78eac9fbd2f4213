#include "server/backend/language/text.h"

#include <stdint.h>
#include <string.h>

#include "base/text.h"
#include "base/utf8.h"

/* --- Characters ------------------------------------------------------------------------------------------
 */

static void tell(const char *bytes, size_t size, struct buffer *ret) {
    size_t good = 0;
    if (size == 0)
        return;

    for (size_t at = 0; at < size;) {
        int length = utf8_length(bytes + at, size - at);
        if (length > 0) {
            at += (size_t)length;
            continue;
        }
        buffer_append(ret, bytes + good, at - good);
        buffer_append(ret, "\xef\xbf\xbd", 3);
        good = ++at;
    }
    buffer_append(ret, bytes + good, size - good);
}

/* --- Stop strings ----------------------------------------------------------------------------------------
 */

static void drop_front(struct buffer *buffer, size_t size) {
    memmove(buffer->bytes, buffer->bytes + size, buffer->size - size);
    buffer->size -= size;
}

/* The first stop string that is here: where it starts; SIZE_MAX: none is. */
static size_t find_stop(const struct answer_text *text) {
    size_t first = SIZE_MAX;
    for (int i = 0; i < text->stop_count; i++) {
        const char *at = memmem(text->held.bytes, text->held.size, text->stops[i], strlen(text->stops[i]));
        if (at && (size_t)(at - text->held.bytes) < first)
            first = (size_t)(at - text->held.bytes);
    }
    return first;
}

/* Bytes at the end of `bytes` that `word` begins with. */
static size_t begun(const char *bytes, size_t size, const char *word) {
    size_t length = strlen(word), most = length - 1 < size ? length - 1 : size;
    while (most > 0 && memcmp(bytes + size - most, word, most) != 0)
        most--;
    return most;
}

bool answer_text_add(struct answer_text *text, const char *bytes, size_t size, struct buffer *ret) {
    struct buffer *held = &text->held;
    if (!buffer_append(held, bytes, size)) {
        ret->failed = true;
        return false;
    }

    size_t stop = find_stop(text);
    if (stop != SIZE_MAX) {
        tell(held->bytes, stop, ret);
        held->size = 0;
        return false;
    }

    size_t keep = utf8_unfinished(held->bytes, held->size);
    for (int i = 0; i < text->stop_count; i++) {
        size_t more = begun(held->bytes, held->size, text->stops[i]);
        keep = more > keep ? more : keep;
    }
    tell(held->bytes, held->size - keep, ret);
    drop_front(held, held->size - keep);
    return !ret->failed;
}

void answer_text_end(struct answer_text *text, struct buffer *ret) {
    tell(text->held.bytes, text->held.size, ret);
    text->held.size = 0;
}

void answer_text_release(struct answer_text *text) {
    buffer_release(&text->held);
}

/* --- Thoughts --------------------------------------------------------------------------------------------
 */

static const char opening[] = "<think>", closing[] = "</think>";

static size_t blanks(const struct buffer *buffer) {
    size_t count = 0;
    while (count < buffer->size && text_is_blank(buffer->bytes[count]))
        count++;
    return count;
}

/* Before the first word. True: there is more to do. */
static bool begin_thought(struct thought *thought) {
    struct buffer *held = &thought->held;
    size_t blank = blanks(held), here = held->size - blank;
    size_t known = here < sizeof opening - 1 ? here : sizeof opening - 1;
    if (memcmp(held->bytes + blank, opening, known) != 0) {
        thought->state = THOUGHT_OVER;
        return true;
    }
    if (known < sizeof opening - 1)
        return false;

    drop_front(held, blank + known);
    thought->state = THOUGHT_HERE;
    return true;
}

static bool end_thought(struct thought *thought, struct buffer *ret_thought) {
    struct buffer *held = &thought->held;
    const char *end = memmem(held->bytes, held->size, closing, sizeof closing - 1);
    size_t size = end ? (size_t)(end - held->bytes) : held->size - begun(held->bytes, held->size, closing);

    buffer_append(ret_thought, held->bytes, size);
    drop_front(held, end ? size + sizeof closing - 1 : size);
    thought->state = end ? THOUGHT_PAUSE : THOUGHT_HERE;
    return end != NULL;
}

static void answer(struct thought *thought, struct buffer *ret_answer) {
    if (thought->state == THOUGHT_PAUSE)
        drop_front(&thought->held, blanks(&thought->held));
    if (thought->held.size == 0)
        return;

    thought->state = THOUGHT_OVER;
    buffer_append(ret_answer, thought->held.bytes, thought->held.size);
    thought->held.size = 0;
}

void thought_add(struct thought *thought, const char *bytes, size_t size, struct buffer *ret_thought,
                 struct buffer *ret_answer) {
    if (size == 0)
        return;
    if (!buffer_append(&thought->held, bytes, size)) {
        ret_answer->failed = true;
        return;
    }

    if (thought->state == THOUGHT_MAY_COME && !begin_thought(thought))
        return;
    if (thought->state == THOUGHT_HERE && !end_thought(thought, ret_thought))
        return;
    answer(thought, ret_answer);
}

void thought_end(struct thought *thought, struct buffer *ret_thought, struct buffer *ret_answer) {
    if (thought->held.size > 0)
        buffer_append(thought->state == THOUGHT_HERE ? ret_thought : ret_answer, thought->held.bytes,
                      thought->held.size);
    thought->held.size = 0;
}

void thought_release(struct thought *thought) {
    buffer_release(&thought->held);
}
