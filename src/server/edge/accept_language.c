#include "server/edge/accept_language.h"

#include <stdlib.h>
#include <string.h>

void request_find_language(const struct http_request *request, char ret[LANGUAGE_BYTES]) {
    strcpy(ret, "en");
    if (http_request_query(request, "lang", ret, LANGUAGE_BYTES))
        return;

    const char *header = http_request_header(request, "Accept-Language");
    double best = 0;

    while (header && *header) {
        header += strspn(header, " \t,");
        size_t item = strcspn(header, ","), tag = strcspn(header, "-;, \t");
        const char *weight = memmem(header, item, "q=", 2);
        double q = weight ? strtod(weight + 2, NULL) : 1;
        if (q > best && tag >= 2 && tag < LANGUAGE_BYTES && *header != '*') {
            best = q;
            for (size_t i = 0; i < tag; i++)
                ret[i] = (char)(header[i] | 0x20);
            ret[tag] = 0;
        }
        header += item;
    }
}
