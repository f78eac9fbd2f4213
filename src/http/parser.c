#include "http/parser.h"

#include <string.h>
#include <strings.h>

#define CHUNK_LINE_LIMIT 256     /* a chunk's size and extensions */
#define CHUNK_TRAILER_LIMIT 4096 /* all trailers */
#define CHUNK_DIGITS 15          /* hexadecimal; fits 64 bits with room */

static bool is_token_character(unsigned char c) {
    static const char others[] = "!#$%&'*+-.^_`|~";
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr(others, c));
}

/* Visible ASCII, and what lies beyond it: UTF-8 is passed through. */
static bool is_target_character(unsigned char c) {
    return c > ' ' && c != 0x7f;
}

static bool is_value_character(unsigned char c) {
    return (c >= ' ' && c != 0x7f) || c == '\t';
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
        size_t item = strcspn(list, ",");
        size_t trimmed = item;
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
    for (const char *c = header->name; *c; c++)
        if (!is_token_character((unsigned char)*c))
            return false;
    for (const char *c = header->value; *c; c++)
        if (!is_value_character((unsigned char)*c))
            return false;
    return true;
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
    char *c = line;
    while (is_token_character((unsigned char)*c))
        c++;
    if (c == line || *c != ':')
        return false;
    *c++ = 0;
    while (*c == ' ' || *c == '\t')
        c++;
    char *value = c, *end = c;
    for (; *c; c++) {
        if (!is_value_character((unsigned char)*c))
            return false;
        if (*c != ' ' && *c != '\t')
            end = c + 1;
    }
    *end = 0;
    *ret = (struct http_header){line, value};
    return true;
}

static bool parse_length(const char *text, uint64_t *ret) {
    size_t digits = strspn(text, "0123456789");
    if (!digits || digits > 18 || text[digits])
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (uint64_t)(text[i] - '0');
    *ret = value;
    return true;
}

/* What the headers say of framing and of the connection, counted so that repetitions are noticed. */
struct framing_headers {
    int hosts, lengths, encodings;
    bool chunked, close, keep_alive;
    const char *expect;
};

static int note_header(const struct http_header *header, struct framing_headers *seen, struct http_head *head,
                       const char **ret_reason) {
    const char *name = header->name, *value = header->value;
    if (!strcasecmp(name, "content-length")) {
        if (seen->lengths++ || !parse_length(value, &head->content_length)) {
            *ret_reason = "Content-Length is repeated or not a number";
            return 400;
        }
    } else if (!strcasecmp(name, "transfer-encoding")) {
        seen->chunked = !strcasecmp(value, "chunked");
        if (seen->encodings++) {
            *ret_reason = "Transfer-Encoding is repeated";
            return 400;
        }
    } else if (!strcasecmp(name, "host")) {
        if (seen->hosts++) {
            *ret_reason = "Host is repeated";
            return 400;
        }
    } else if (!strcasecmp(name, "connection")) {
        seen->close |= http_list_contains(value, "close");
        seen->keep_alive |= http_list_contains(value, "keep-alive");
    } else if (!strcasecmp(name, "expect")) {
        seen->expect = value;
    }
    return 0;
}

static int parse_headers(char **at, char *end, int capacity, struct http_head *head,
                         struct framing_headers *seen, const char **ret_reason) {
    for (char *line; (line = take_line(at, end)) && *line;) {
        if (head->header_count >= capacity || head->header_count >= HTTP_HEADER_COUNT_LIMIT) {
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
    if (seen->encodings && seen->lengths) {
        *ret_reason = "Transfer-Encoding and Content-Length exclude each other";
        return 400;
    }
    if (seen->encodings && !head->minor_version) {
        *ret_reason = "HTTP/1.0 has no Transfer-Encoding";
        return 400;
    }
    if (seen->encodings && !seen->chunked) {
        *ret_reason = "the only Transfer-Encoding understood is chunked";
        return 501;
    }
    head->keep_alive = !seen->close && (head->minor_version || seen->keep_alive);
    return 0;
}

/* "HTTP/1.x" -> x; -1: another version; -2: no version at all. */
static int parse_version(const char *text) {
    if (strncmp(text, "HTTP/", 5) || text[5] < '0' || text[5] > '9' || text[6] != '.' || text[7] < '0' ||
        text[7] > '9' || text[8])
        return -2;
    return text[5] == '1' && text[7] <= '1' ? text[7] - '0' : -1;
}

/* Origin form ("/…"), absolute form ("http://host/…", cut down to its path) or the asterisk of OPTIONS. */
static char *normalize_target(const char *method, char *target) {
    for (const char *c = target; *c; c++)
        if (!is_target_character((unsigned char)*c) || *c == '#')
            return NULL;
    if (*target == '/' || (!strcmp(target, "*") && !strcmp(method, "OPTIONS")))
        return target;
    size_t scheme = !strncasecmp(target, "http://", 7) ? 7 : !strncasecmp(target, "https://", 8) ? 8 : 0;
    if (!scheme || !target[scheme] || target[scheme] == '/')
        return NULL;
    char *path = target + scheme + strcspn(target + scheme, "/?");
    if (*path == '/')
        return path;
    /* An empty path means "/"; the byte before the query belongs to the authority, which nobody reads any
     * more. */
    path -= 1;
    if (!path[1])
        return strcpy(path, "/");
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
    for (const char *c = line; *c; c++)
        if (!is_token_character((unsigned char)*c))
            return 400;
    head->method = line;
    head->minor_version = parse_version(version);
    if (head->minor_version == -2)
        return 400;
    if (head->minor_version < 0) {
        *ret_reason = "the only version understood is HTTP/1.1";
        return 505;
    }
    head->target = normalize_target(line, target);
    return head->target ? 0 : 400;
}

int http_head_parse_request(char *text, size_t size, struct http_header *headers, int capacity,
                            struct http_head *ret, const char **ret_reason) {
    struct http_head head = {.headers = headers};
    struct framing_headers seen = {0};
    char *at = text, *end = text + size;
    int status = parse_request_line(take_line(&at, end), &head, ret_reason);
    if (!status)
        status = parse_headers(&at, end, capacity, &head, &seen, ret_reason);
    if (!status && head.minor_version && !seen.hosts) {
        *ret_reason = "Host is missing";
        status = 400;
    }
    if (!status && seen.expect && head.minor_version) {
        head.expect_continue = !strcasecmp(seen.expect, "100-continue");
        if (!head.expect_continue) {
            *ret_reason = "the only Expect understood is 100-continue";
            status = 417;
        }
    }
    head.framing = seen.encodings        ? HTTP_BODY_CHUNKED
                   : head.content_length ? HTTP_BODY_LENGTH
                                         : HTTP_BODY_NONE;
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
    return head->minor_version >= 0 && head->status >= 100;
}

int http_head_parse_answer(char *text, size_t size, bool to_head, struct http_header *headers, int capacity,
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
    if (to_head || head.status < 200 || head.status == 204 || head.status == 304)
        head.framing = HTTP_BODY_NONE;
    else if (seen.encodings)
        head.framing = HTTP_BODY_CHUNKED;
    else if (seen.lengths)
        head.framing = head.content_length ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
    else
        head.framing = HTTP_BODY_UNTIL_CLOSE;
    head.keep_alive &= head.framing != HTTP_BODY_UNTIL_CLOSE;
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
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One byte outside of a chunk's data. False where it must not be there. */
static bool chunk_decode_byte(struct http_chunk_decoder *decoder, char c) {
    int digit;
    switch (decoder->state) {
    case CHUNK_SIZE:
        if ((digit = hex_digit(c)) >= 0) {
            decoder->remaining = decoder->remaining * 16 + (uint64_t)digit;
            return ++decoder->digits <= CHUNK_DIGITS;
        }
        decoder->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXTENSION;
        return decoder->digits && (c == '\r' || c == ';');
    case CHUNK_EXTENSION:
        if (c == '\r')
            decoder->state = CHUNK_SIZE_LF;
        return (c == '\r' || is_value_character((unsigned char)c)) && ++decoder->line <= CHUNK_LINE_LIMIT;
    case CHUNK_SIZE_LF:
        decoder->state = decoder->remaining ? CHUNK_DATA : CHUNK_TRAILER;
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
        if (c == '\r')
            decoder->state = CHUNK_TRAILER_LF;
        else
            decoder->line++;
        return (c == '\r' || is_value_character((unsigned char)c)) &&
               ++decoder->trailers <= CHUNK_TRAILER_LIMIT;
    case CHUNK_TRAILER_LF:
        decoder->state = decoder->line ? CHUNK_TRAILER : CHUNK_DONE;
        decoder->line = 0;
        return c == '\n';
    default:
        return false;
    }
}

enum http_chunk_result http_chunk_decode(struct http_chunk_decoder *decoder, const char *bytes, size_t size,
                                         size_t *ret_used, const char **ret_data, size_t *ret_data_size) {
    for (size_t at = 0; at < size;) {
        if (decoder->state == CHUNK_DATA) {
            size_t run = size - at < decoder->remaining ? size - at : (size_t)decoder->remaining;
            decoder->remaining -= run;
            if (!decoder->remaining)
                decoder->state = CHUNK_DATA_CR;
            *ret_data = bytes + at;
            *ret_data_size = run;
            *ret_used = at + run;
            return HTTP_CHUNK_DATA;
        }
        if (!chunk_decode_byte(decoder, bytes[at++])) {
            *ret_used = at;
            return HTTP_CHUNK_BAD;
        }
        if (decoder->state == CHUNK_DONE) {
            *ret_used = at;
            return HTTP_CHUNK_END;
        }
    }
    *ret_used = size;
    return HTTP_CHUNK_MORE;
}
