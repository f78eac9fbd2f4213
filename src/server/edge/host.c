/* Whose name a request was sent to. */
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "server/edge/links.h"
#include "server/edge/respond.h"

/* The name in a Host header, without a port and brackets; false where it is too long to be one of ours. */
static bool read_name(const char *host, char *ret, size_t size) {
    bool bracketed = *host == '[';
    host += bracketed;
    size_t length = strcspn(host, bracketed ? "]" : ":");
    if (length >= size)
        return false;

    memcpy(ret, host, length);
    ret[length] = 0;
    if (length > 1 && ret[length - 1] == '.') /* "localhost." is the same name */
        ret[length - 1] = 0;

    return true;
}

/* localhost and the numbers of loopback: no name that somebody else can point here. */
static bool is_loopback(const char *name) {
    struct in_addr v4;
    struct in6_addr v6;
    size_t length = strlen(name);

    if (strcasecmp(name, "localhost") == 0)
        return true;
    if (length > 10 && strcasecmp(name + length - 10, ".localhost") == 0)
        return true;
    if (inet_pton(AF_INET, name, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;

    return inet_pton(AF_INET6, name, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool host_check_names(const char *const *names, struct error *error) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    struct in6_addr v6;

    for (; names && *names; names++)
        if (!**names || ((*names)[strspn(*names, allowed)] && inet_pton(AF_INET6, *names, &v6) != 1))
            return error_set(error, ERROR_INVALID,
                             "--host-name %.80s: expected a name such as photos.example, without a port",
                             *names);
    return true;
}

bool link_check_host(struct http_request *request, const char *const *names) {
    const char *host = http_request_header(request, "Host");
    char name[256];
    struct error error;

    if (!host) /* HTTP/1.0: no browser */
        return true;
    if (read_name(host, name, sizeof name)) {
        if (is_loopback(name))
            return true;
        for (; names && *names; names++)
            if (strcasecmp(*names, name) == 0)
                return true;
    }

    error_set(&error, ERROR_MISDIRECTED,
              "this listener answers to localhost alone, not to \"%.60s\"; --host-name adds a name", host);
    respond_error(request, &error);
    return false;
}
