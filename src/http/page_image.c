#include "http/page_image.h"

#include <ctype.h>
#include <curl/curl.h>
#include <string.h>
#include <strings.h>

enum { LOOKED_AT = 256 * 1024 };

static bool starts_with(const char *bytes, size_t size, const char *start) {
    size_t length = strlen(start);
    return size >= length && strncasecmp(bytes, start, length) == 0;
}

bool page_is_html(const char *bytes, size_t size) {
    if (starts_with(bytes, size, "\xef\xbb\xbf")) {
        bytes += 3;
        size -= 3;
    }
    for (; size && isspace((unsigned char)*bytes); size--)
        bytes++;
    return starts_with(bytes, size, "<!doctype html") || starts_with(bytes, size, "<html") ||
           starts_with(bytes, size, "<head") || starts_with(bytes, size, "<!--");
}

/* One attribute of a tag: name="value", also unquoted. */
struct html_attribute {
    const char *name, *value;
    size_t name_length, value_length;
};

static bool ends_name(char c) {
    return isspace((unsigned char)c) || c == '=' || c == '/' || c == '>';
}

/* Moves *at behind it. False at the end of the tag. */
static bool read_attribute(const char **at, const char *end, struct html_attribute *ret) {
    const char *p = *at;
    while (p < end && (isspace((unsigned char)*p) || *p == '/'))
        p++;
    if (p == end || *p == '>' || *p == '=')
        return false;

    *ret = (struct html_attribute){.name = p};
    while (p < end && !ends_name(*p))
        p++;
    ret->name_length = (size_t)(p - ret->name);
    while (p < end && isspace((unsigned char)*p))
        p++;
    if (p < end && *p == '=') {
        for (p++; p < end && isspace((unsigned char)*p);)
            p++;
        char quote = p < end && (*p == '"' || *p == '\'') ? *p++ : 0;
        ret->value = p;
        while (p < end && (quote ? *p != quote : !isspace((unsigned char)*p) && *p != '>'))
            p++;
        ret->value_length = (size_t)(p - ret->value);
        p += quote && p < end;
    }

    *at = p;
    return true;
}

static bool is(const char *text, size_t length, const char *word) {
    return text && strlen(word) == length && strncasecmp(text, word, length) == 0;
}

/* The content of <meta property="og:image" content="…">, from behind "<meta". */
static bool read_meta(const char *at, const char *end, struct html_attribute *ret) {
    static const char *const names[] = {"og:image", "og:image:url", "og:image:secure_url", "twitter:image"};
    struct html_attribute attribute, content = {0};
    bool named = false;

    while (read_attribute(&at, end, &attribute)) {
        bool names_it = is(attribute.name, attribute.name_length, "property") ||
                        is(attribute.name, attribute.name_length, "name");
        for (size_t i = 0; names_it && i < sizeof names / sizeof *names; i++)
            named = named || is(attribute.value, attribute.value_length, names[i]);
        if (is(attribute.name, attribute.name_length, "content"))
            content = attribute;
    }

    *ret = content;
    return named && content.value_length > 0;
}

/* "&amp;" is the one escape that addresses need. False: it is too long. */
static bool copy_plain(const struct html_attribute *content, char *ret, size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < content->value_length; i++) {
        if (used + 1 >= size || !content->value[i])
            return false;
        ret[used++] = content->value[i];
        if (starts_with(content->value + i, content->value_length - i, "&amp;"))
            i += strlen("amp;");
    }
    ret[used] = 0;
    return true;
}

/* `link` as `address` has it; http and https only. */
static bool resolve(const char *address, const char *link, char ret[LIMIT_URL_BYTES]) {
    CURLU *url = curl_url();
    char *whole = NULL, *scheme = NULL;
    bool done = url && !curl_url_set(url, CURLUPART_URL, address, 0) &&
                !curl_url_set(url, CURLUPART_URL, link, 0) &&
                !curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) &&
                (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
                !curl_url_get(url, CURLUPART_URL, &whole, 0) && strlen(whole) < LIMIT_URL_BYTES;
    if (done)
        strcpy(ret, whole);
    curl_free(scheme);
    curl_free(whole);
    curl_url_cleanup(url);
    return done;
}

bool page_find_image(const char *bytes, size_t size, const char *address, char ret[LIMIT_URL_BYTES]) {
    const char *end = bytes + (size < LOOKED_AT ? size : LOOKED_AT);
    char link[LIMIT_URL_BYTES];
    struct html_attribute content;

    for (const char *at = bytes; at < end && (at = memchr(at, '<', (size_t)(end - at))); at++)
        if (starts_with(at, (size_t)(end - at), "<meta") && end - at > 5 && isspace((unsigned char)at[5]) &&
            read_meta(at + 5, end, &content) && copy_plain(&content, link, sizeof link))
            return resolve(address, link, ret);
    return false;
}
