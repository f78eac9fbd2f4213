#include "http/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/limits.h"

bool multipart_is_form(const char *content_type) {
    static const char name[] = "multipart/form-data";
    return content_type && !strncasecmp(content_type, name, sizeof name - 1) &&
           strchr("; \t", content_type[sizeof name - 1]);
}

/* The value of `name=` in "type; a=b; name="c d"", unquoted. False if there is none or it does not fit. */
static bool get_parameter(const char *header, const char *name, char *value, size_t size) {
    size_t name_length = strlen(name);
    const char *at = strchr(header, ';');

    while (at) {
        at += 1 + strspn(at + 1, " \t");
        bool found = !strncasecmp(at, name, name_length) && at[name_length] == '=';
        size_t out = 0;
        bool quoted = false;

        for (at += found ? name_length + 1 : 0; *at && (quoted || *at != ';'); at++) {
            if (*at == '"') {
                quoted = !quoted;
                continue;
            }
            if (quoted && *at == '\\' && at[1])
                at++;
            if (found && out + 1 >= size)
                return false;
            if (found)
                value[out++] = *at;
        }

        while (found && out && (value[out - 1] == ' ' || value[out - 1] == '\t'))
            out--;
        if (found) {
            value[out] = 0;
            return out > 0;
        }
        at = *at ? at : NULL;
    }
    return false;
}

/* Take what is needed of one header line of a part. */
static void read_part_header(const char *line, const char *field, bool *is_field,
                             struct multipart_part *part) {
    char name[256];
    if (!strncasecmp(line, "content-disposition:", 20))
        *is_field = get_parameter(line + 20, "name", name, sizeof name) && !strcmp(name, field);
    else if (!strncasecmp(line, "content-type:", 13))
        snprintf(part->type, sizeof part->type, "%s", line + 13 + strspn(line + 13, " \t"));
}

/* Read the headers of a part, up to its empty line. Returns where its bytes begin; NULL if malformed. */
static const char *read_part_head(const char *at, const char *end, const char *field, bool *is_field,
                                  struct multipart_part *part) {
    char line[1024];
    for (const char *start = at; at - start < LIMIT_PART_HEAD_BYTES;) {
        const char *stop = memmem(at, (size_t)(end - at), "\r\n", 2);
        if (!stop || (size_t)(stop - at) >= sizeof line)
            return NULL;

        size_t length = (size_t)(stop - at);
        memcpy(line, at, length);
        line[length] = 0;
        at = stop + 2;
        if (!length)
            return at;
        read_part_header(line, field, is_field, part);
    }

    return NULL;
}

bool multipart_find(const char *content_type, const char *body, size_t size, const char *field,
                    struct multipart_part *ret, struct error *error) {
    char delimiter[LIMIT_BOUNDARY_BYTES + 8] = "\r\n--";
    if (!get_parameter(content_type, "boundary", delimiter + 4, LIMIT_BOUNDARY_BYTES))
        return error_set(error, ERROR_INVALID, "the form's Content-Type has no boundary");
    size_t delimiter_length = strlen(delimiter);
    const char *at = body, *end = body + size;

    /* The first delimiter may be at the very start, without the line end before it. */
    if (size >= delimiter_length - 2 && !memcmp(at, delimiter + 2, delimiter_length - 2))
        at += delimiter_length - 2;
    else if ((at = memmem(body, size, delimiter, delimiter_length)))
        at += delimiter_length;

    for (int parts = 0; at && parts < MULTIPART_PARTS; parts++) {
        if (end - at >= 2 && !memcmp(at, "--", 2))
            return error_set(error, ERROR_NOT_FOUND, "the form has no field \"%s\"", field);
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        if (end - at < 2 || memcmp(at, "\r\n", 2) != 0)
            break;

        struct multipart_part part = {0};
        bool is_field = false;
        part.bytes = read_part_head(at + 2, end, field, &is_field, &part);
        const char *stop =
            part.bytes ? memmem(part.bytes, (size_t)(end - part.bytes), delimiter, delimiter_length) : NULL;
        if (!stop)
            break;

        part.size = (size_t)(stop - part.bytes);
        if (is_field) {
            *ret = part;
            return true;
        }
        at = stop + delimiter_length;
    }
    return error_set(error, ERROR_INVALID, "the form is malformed or cut off");
}
