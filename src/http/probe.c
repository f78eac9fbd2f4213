#include "http/probe.h"

#include <curl/curl.h>
#include <stddef.h>

static size_t ignore_body(char *bytes, size_t unit, size_t count, void *context) {
    return unit * count;
}

bool probe_url(const char *url, int milliseconds, struct error *error) {
    long status = 0;
    CURL *handle = curl_easy_init();
    if (!handle)
        return error_set(error, ERROR_MEMORY, "%s: no memory to ask it", url);
    curl_easy_setopt(handle, CURLOPT_URL, url);
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_PROXY, "");
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, (long)milliseconds);
    curl_easy_setopt(handle, CURLOPT_USERAGENT, "guichet/" GUICHET_VERSION);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, ignore_body);
    CURLcode code = curl_easy_perform(handle);
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(handle);
    if (code)
        return error_set(error, ERROR_UNAVAILABLE, "%s: %s", url, curl_easy_strerror(code));
    if (status < 200 || status > 299)
        return error_set(error, ERROR_UNAVAILABLE, "%s: answers %ld", url, status);
    return true;
}
