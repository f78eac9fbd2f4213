#include "http/parser.h"

#include <string.h>
#include <strings.h>

#include "base/limits.h"

#define CHUNK_DIGITS 15  /* of a chunk's size, hexadecimal: fits 63 bits */
#define LENGTH_DIGITS 18 /* of a Content-Length: fits 63 bits */

/* What a byte may be part of (RFC 9110, 5.6.2 and 5.5). Bytes above ASCII are passed through, as UTF-8. */
enum {
    TOKEN = 1,
    TARGET = 2,
    VALUE = 4,
    VISIBLE = TARGET | VALUE,
    WORD = TOKEN | VISIBLE,
};

static const uint8_t classes[256] = {
    ['\t'] = VALUE,        [' '] = VALUE,           ['!'] = WORD,         ['"'] = VISIBLE,
    ['#' ... '\''] = WORD, ['(' ... ')'] = VISIBLE, ['*' ... '+'] = WORD, [','] = VISIBLE,
    ['-' ... '.'] = WORD,  ['/'] = VISIBLE,         ['0' ... '9'] = WORD, [':' ... '@'] = VISIBLE,
    ['A' ... 'Z'] = WORD,  ['[' ... ']'] = VISIBLE, ['^' ... 'z'] = WORD, ['{'] = VISIBLE,
    ['|'] = WORD,          ['}'] = VISIBLE,         ['~'] = WORD,         [0x80 ... 0xff] = VISIBLE,
};

/* The first byte that is not of the class; a NUL is of none. */
static char *skip_class(const char *text, int allowed) {
    while (classes[(unsigned char)*text] & allowed)
        text++;
    return (char *)(uintptr_t)text;
}

ptrdiff_t http_head_scan(struct http_head_scanner *scanner, const char *bytes, size_t size) {
    while (scanner->scanned < size) {
        const char *from = bytes + scanner->scanned;
        const char *newline = memchr(from, '\n', size - scanner->scanned);
        size_t end = newline ? (size_t)(newline - bytes) : size;
        if (memchr(from, 0, end - scanner->scanned))
            return -1;
        scanner->scanned = end;
        if (!newline)
            return 0;
        if (end == scanner->line_start || bytes[end - 1] != '\r')
            return -1;

        bool empty = end - 1 == scanner->line_start;
        scanner->scanned = scanner->line_start = end + 1;
        scanner->lines++;
        if (empty)
            return (ptrdiff_t)end + 1;
    }
    return 0;
}

bool http_list_contains(const char *list, const char *token) {
    size_t length = strlen(token);
    while (*list) {
        list += strspn(list, " \t,");
        size_t item = strcspn(list, ","), trimmed = item;
        while (trimmed && (list[trimmed - 1] == ' ' || list[trimmed - 1] == '\t'))
            trimmed--;
        if (trimmed == length && !strncasecmp(list, token, length))
            return true;
        list += item;
    }

    return false;
}

bool http_header_is_valid(const struct http_header *header) {
    if (!header->name || !header->value || !*header->name)
        return false;

    return !*skip_class(header->name, TOKEN) && !*skip_class(header->value, VALUE);
}

static char *put_bytes(char *to, const char *bytes, size_t length) {
    memcpy(to, bytes, length);
    return to + length;
}

void http_append_header(struct buffer *text, const char *name, const char *value) {
    size_t name_length = strlen(name), value_length = strlen(value);
    char *line = buffer_extend(text, name_length + value_length + 4);
    if (!line)
        return;

    line = put_bytes(line, name, name_length);
    line = put_bytes(line, ": ", 2);
    line = put_bytes(line, value, value_length);
    put_bytes(line, "\r\n", 2);
}

void http_append_length(struct buffer *text, uint64_t length) {
    buffer_append_string(text, "Content-Length: ");
    buffer_append_number(text, length);
    buffer_append(text, "\r\n", 2);
}

/* Cut the next line out of [*at, end): its CR becomes a NUL. The scanner made sure that every line ends in
 * CRLF. */
static char *take_line(char **at, char *end) {
    char *line = *at;
    char *newline = memchr(line, '\n', (size_t)(end - line));
    if (!newline || newline == line)
        return NULL;

    newline[-1] = 0;
    *at = newline + 1;
    return line;
}

static bool parse_header_line(char *line, struct http_header *ret) {
    char *c = skip_class(line, TOKEN);
    if (c == line || *c != ':')
        return false;

    *c++ = 0;
    while (*c == ' ' || *c == '\t')
        c++;

    char *value = c, *end = skip_class(value, VALUE);
    if (*end)
        return false;

    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = 0;
    *ret = (struct http_header){line, value};

    return true;
}

static bool parse_length(const char *text, uint64_t *ret) {
    size_t digits = strspn(text, "0123456789");
    if (!digits || digits > LENGTH_DIGITS || text[digits])
        return false;

    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (uint64_t)(text[i] - '0');
    *ret = value;
    return true;
}

/* What the headers say about framing and the connection, counted so that repetitions are noticed. */
struct framing_headers {
    int hosts, lengths, encodings;
    bool chunked, close, keep_alive;
    const char *expect;
};

/* Returns 0, or the status to refuse with. */
static int note_header(const struct http_header *header, struct framing_headers *seen, struct http_head *head,
                       const char **ret_reason) {
    const char *name = header->name, *value = header->value;
    if (http_names_equal(name, "content-length")) {
        if (seen->lengths++ || !parse_length(value, &head->content_length)) {
            *ret_reason = "Content-Length is repeated or not a number";
            return 400;
        }
    } else if (http_names_equal(name, "transfer-encoding")) {
        seen->chunked = !strcasecmp(value, "chunked");
        if (seen->encodings++) {
            *ret_reason = "Transfer-Encoding is repeated";
            return 400;
        }
    } else if (http_names_equal(name, "host")) {
        if (seen->hosts++ || value[strcspn(value, " \t/\\?#@,\"<>{}|^`")]) {
            *ret_reason = "Host is repeated or malformed";
            return 400;
        }
    } else if (http_names_equal(name, "connection")) {
        seen->close |= http_list_contains(value, "close");
        seen->keep_alive |= http_list_contains(value, "keep-alive");
    } else if (http_names_equal(name, "expect")) {
        seen->expect = value;
    }

    return 0;
}

/* The headers' framing is sound. */
static int check_framing(const struct framing_headers *seen, const struct http_head *head,
                         const char **ret_reason) {
    if (!seen->encodings)
        return 0;
    if (seen->lengths) {
        *ret_reason = "Transfer-Encoding and Content-Length cannot be combined";
        return 400;
    }
    if (!head->minor_version) {
        *ret_reason = "HTTP/1.0 has no Transfer-Encoding";
        return 400;
    }
    if (!seen->chunked) {
        *ret_reason = "the only Transfer-Encoding supported is chunked";
        return 501;
    }

    return 0;
}

static int parse_headers(char **at, char *end, int capacity, struct http_head *head,
                         struct framing_headers *seen, const char **ret_reason) {
    for (char *line; (line = take_line(at, end)) && *line;) {
        if (head->header_count >= capacity) {
            *ret_reason = "too many header lines";
            return 431;
        }

        struct http_header *header = &head->headers[head->header_count];
        if (!parse_header_line(line, header)) {
            *ret_reason = "a header line is malformed";
            return 400;
        }
        head->header_count++;

        int status = note_header(header, seen, head, ret_reason);
        if (status)
            return status;
    }

    head->has_length = seen->lengths > 0;
    head->keep_alive = !seen->close && (head->minor_version || seen->keep_alive);
    return check_framing(seen, head, ret_reason);
}

/* "HTTP/1.x" -> x; -1: another version; -2: no version at all. */
static int parse_version(const char *text) {
    if (strncmp(text, "HTTP/", 5) != 0 || text[5] < '0' || text[5] > '9' || text[6] != '.' || text[7] < '0' ||
        text[7] > '9' || text[8])
        return -2;
    return text[5] == '1' && text[7] <= '1' ? text[7] - '0' : -1;
}

/* Origin form ("/…"), absolute form ("http://host/…", cut down to its path) or the asterisk of OPTIONS. */
static char *normalize_target(const char *method, char *target) {
    if (*skip_class(target, TARGET) || strchr(target, '#'))
        return NULL;
    if (*target == '/' || (!strcmp(target, "*") && !strcmp(method, "OPTIONS")))
        return target;

    size_t scheme = 0;
    if (!strncasecmp(target, "http://", 7))
        scheme = 7;
    else if (!strncasecmp(target, "https://", 8))
        scheme = 8;

    if (!scheme || !target[scheme] || target[scheme] == '/')
        return NULL;

    char *path = target + scheme + strcspn(target + scheme, "/?");
    if (*path == '/')
        return path;

    /* An empty path means "/". The byte before the query belongs to the authority, which is not used. */
    path -= 1;
    *path = '/';
    return path;
}

static int parse_request_line(char *line, struct http_head *head, const char **ret_reason) {
    *ret_reason = "the request line is malformed";
    char *target = line ? strchr(line, ' ') : NULL;
    char *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version)
        return 400;

    *target++ = 0;
    *version++ = 0;
    if (target == line + 1)
        return 400;
    if (*skip_class(line, TOKEN))
        return 400;
    head->method = line;

    head->minor_version = parse_version(version);
    if (head->minor_version == -2)
        return 400;
    if (head->minor_version < 0) {
        *ret_reason = "the only version supported is HTTP/1.1";
        return 505;
    }

    head->target = normalize_target(line, target);
    return head->target ? 0 : 400;
}

/* What only requests must have, or may. */
static int check_request(const struct framing_headers *seen, struct http_head *head,
                         const char **ret_reason) {
    if (!head->minor_version)
        return 0;
    if (!seen->hosts) {
        *ret_reason = "Host is missing";
        return 400;
    }
    if (!seen->expect)
        return 0;

    head->expect_continue = !strcasecmp(seen->expect, "100-continue");
    if (head->expect_continue)
        return 0;
    *ret_reason = "the only Expect supported is 100-continue";
    return 417;
}

int http_head_parse_request(char *text, size_t size, struct http_header *headers, int capacity,
                            struct http_head *ret, const char **ret_reason) {
    struct http_head head = {.headers = headers};
    struct framing_headers seen = {0};
    char *at = text, *end = text + size;
    int status = parse_request_line(take_line(&at, end), &head, ret_reason);
    if (!status)
        status = parse_headers(&at, end, capacity, &head, &seen, ret_reason);
    if (!status)
        status = check_request(&seen, &head, ret_reason);

    if (seen.encodings)
        head.framing = HTTP_BODY_CHUNKED;
    else if (head.content_length)
        head.framing = HTTP_BODY_LENGTH;
    *ret = head;
    return status;
}

/* "HTTP/1.1 200 OK"; the reason may be missing. */
static bool parse_status_line(char *line, struct http_head *head) {
    if (!line || strlen(line) < 12 || line[8] != ' ' || (line[12] && line[12] != ' '))
        return false;

    line[8] = 0;
    head->minor_version = parse_version(line);
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9')
            return false;
        head->status = head->status * 10 + line[i] - '0';
    }

    return head->minor_version >= 0 && head->status >= 100 && head->status < 600;
}

int http_head_parse_response(char *text, size_t size, bool to_head, struct http_header *headers, int capacity,
                             struct http_head *ret, const char **ret_reason) {
    struct http_head head = {.headers = headers};
    struct framing_headers seen = {0};
    char *at = text, *end = text + size;
    if (!parse_status_line(take_line(&at, end), &head)) {
        *ret_reason = "the status line is malformed";
        return 400;
    }

    int status = parse_headers(&at, end, capacity, &head, &seen, ret_reason);
    if (status)
        return status;

    bool never_has_body = head.status < 200 || head.status == 204;
    if (to_head || never_has_body || head.status == 304)
        head.framing = HTTP_BODY_NONE;
    else if (seen.encodings)
        head.framing = HTTP_BODY_CHUNKED;
    else if (seen.lengths)
        head.framing = head.content_length ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
    else
        head.framing = HTTP_BODY_UNTIL_CLOSE;

    /* A body where none may be could be taken for the next response: a later caller's. */
    bool ambiguous = never_has_body && (head.content_length || seen.encodings);
    head.keep_alive &= head.framing != HTTP_BODY_UNTIL_CLOSE && !ambiguous;
    *ret = head;
    return 0;
}

enum {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
    CHUNK_DONE
};

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One byte outside of a chunk's data. False: it is malformed. */
static bool decode_chunk_byte(struct http_body_decoder *decoder, char c) {
    int digit;
    switch (decoder->state) {
    case CHUNK_SIZE:
        if ((digit = hex_digit(c)) >= 0) {
            decoder->left = decoder->left * 16 + (uint64_t)digit;
            return ++decoder->digits <= CHUNK_DIGITS;
        }
        decoder->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXTENSION;
        return decoder->digits && (c == '\r' || c == ';');
    case CHUNK_EXTENSION:
        if (c == '\r')
            decoder->state = CHUNK_SIZE_LF;
        return (c == '\r' || (classes[(unsigned char)c] & VALUE)) &&
               ++decoder->line <= LIMIT_CHUNK_LINE_BYTES;
    case CHUNK_SIZE_LF:
        decoder->state = decoder->left ? CHUNK_DATA : CHUNK_TRAILER;
        decoder->line = 0;
        return c == '\n';
    case CHUNK_DATA_CR:
        decoder->state = CHUNK_DATA_LF;
        return c == '\r';
    case CHUNK_DATA_LF:
        decoder->state = CHUNK_SIZE;
        decoder->digits = 0;
        decoder->line = 0;
        return c == '\n';
    case CHUNK_TRAILER:
        if (c == '\r') {
            decoder->state = CHUNK_TRAILER_LF;
            if (decoder->line && !decoder->colon)
                return false;
            decoder->colon = false;
        } else {
            if (c == ':' && decoder->line)
                decoder->colon = true;
            if (!decoder->colon && !(classes[(unsigned char)c] & TOKEN))
                return false;
            decoder->line++;
        }
        return (c == '\r' || (classes[(unsigned char)c] & VALUE)) &&
               ++decoder->trailers <= LIMIT_TRAILER_BYTES;
    case CHUNK_TRAILER_LF:
        decoder->state = decoder->line ? CHUNK_TRAILER : CHUNK_DONE;
        decoder->line = 0;
        return c == '\n';
    default:
        return false;
    }
}

static enum http_decode_result decode_chunks(struct http_body_decoder *decoder, const char *bytes,
                                             size_t size, size_t *ret_used, const char **ret_data,
                                             size_t *ret_data_size) {
    for (size_t at = 0; at < size;) {
        if (decoder->state == CHUNK_DATA) {
            size_t run = size - at < decoder->left ? size - at : (size_t)decoder->left;
            decoder->left -= run;
            if (!decoder->left)
                decoder->state = CHUNK_DATA_CR;

            *ret_data = bytes + at;
            *ret_data_size = run;
            *ret_used = at + run;
            return HTTP_DECODE_DATA;
        }

        if (!decode_chunk_byte(decoder, bytes[at++])) {
            *ret_used = at;
            return HTTP_DECODE_BAD;
        }
        if (decoder->state == CHUNK_DONE) {
            *ret_used = at;
            return HTTP_DECODE_END;
        }
    }

    *ret_used = size;
    return HTTP_DECODE_MORE;
}

void http_body_decoder_init(struct http_body_decoder *decoder, const struct http_head *head) {
    *decoder = (struct http_body_decoder){
        .framing = head->framing,
        .left = head->framing == HTTP_BODY_LENGTH ? head->content_length : 0,
    };
}

enum http_decode_result http_body_decode(struct http_body_decoder *decoder, const char *bytes, size_t size,
                                         size_t *ret_used, const char **ret_data, size_t *ret_data_size) {
    if (decoder->framing == HTTP_BODY_CHUNKED)
        return decode_chunks(decoder, bytes, size, ret_used, ret_data, ret_data_size);

    bool bounded = decoder->framing != HTTP_BODY_UNTIL_CLOSE;
    size_t run = bounded && decoder->left < size ? (size_t)decoder->left : size;
    *ret_used = run;
    if (bounded && !decoder->left)
        return HTTP_DECODE_END;
    if (!run)
        return HTTP_DECODE_MORE;

    *ret_data = bytes;
    *ret_data_size = run;
    if (bounded)
        decoder->left -= run;
    return HTTP_DECODE_DATA;
}

int64_t http_body_left(const struct http_body_decoder *decoder) {
    bool known = decoder->framing == HTTP_BODY_NONE || decoder->framing == HTTP_BODY_LENGTH;
    return known ? (int64_t)decoder->left : -1;
}

void http_body_skip(struct http_body_decoder *decoder, size_t size) {
    decoder->left -= size;
}

uint64_t http_body_chunk_left(const struct http_body_decoder *decoder) {
    return decoder->framing == HTTP_BODY_CHUNKED && decoder->state == CHUNK_DATA ? decoder->left : 0;
}

bool http_body_is_until_close(const struct http_body_decoder *decoder) {
    return decoder->framing == HTTP_BODY_UNTIL_CLOSE;
}
