#include "http/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

/* IANA's special-purpose registry: what is not globally reachable, and multicast. */
static bool is_public_ipv4(uint32_t ip) {
    static const struct {
        uint32_t network;
        int bits;
    } closed[] = {
        {0x00000000, 8},  /* this network */
        {0x0a000000, 8},  /* private */
        {0x64400000, 10}, /* carrier-grade NAT */
        {0x7f000000, 8},  /* loopback */
        {0xa9fe0000, 16}, /* link-local, with the metadata services of clouds */
        {0xac100000, 12}, /* private */
        {0xc0000000, 24}, /* protocol assignments */
        {0xc0000200, 24}, /* documentation */
        {0xc0586300, 24}, /* 6to4 relays */
        {0xc0a80000, 16}, /* private */
        {0xc6120000, 15}, /* benchmarks */
        {0xc6336400, 24}, /* documentation */
        {0xcb007100, 24}, /* documentation */
        {0xe0000000, 4},  /* multicast */
        {0xf0000000, 4},  /* reserved, broadcast */
    };

    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        if (!((ip ^ closed[i].network) >> (32 - closed[i].bits)))
            return false;
    return true;
}

static uint32_t read_ipv4(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool is_public_ipv6(const uint8_t ip[16]) {
    static const uint8_t zeros[12], mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};

    if (!memcmp(ip, mapped, 12) || !memcmp(ip, nat64, 12))
        return is_public_ipv4(read_ipv4(ip + 12));
    if (!memcmp(ip, zeros, 12) || !memcmp(ip, nat64, 4)) /* ::, ::1, compatible; local-use NAT64 */
        return false;
    if (ip[0] == 0x20 && ip[1] == 0x02) /* 6to4 */
        return is_public_ipv4(read_ipv4(ip + 2));
    if (ip[0] == 0x20 && ip[1] == 0x01 && ip[2] < 2) /* 2001::/23: Teredo, benchmarks, ORCHID … */
        return false;
    if (ip[0] == 0x20 && ip[1] == 0x01 && ip[2] == 0x0d && ip[3] == 0xb8) /* documentation */
        return false;
    if (ip[0] == 0x3f && ip[1] == 0xff && ip[2] < 0x10) /* documentation */
        return false;

    if (ip[8] % 4 == 0 && !ip[9] && ip[10] == 0x5e && ip[11] == 0xfe) /* ISATAP */
        return is_public_ipv4(read_ipv4(ip + 12));
    return ip[0] >> 5 == 1; /* only 2000::/3 has been allocated: no fc00::/7, fe80::/10, ff00::/8 */
}

bool address_is_public(const struct sockaddr *address) {
    if (address->sa_family == AF_INET)
        return is_public_ipv4(ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
    if (address->sa_family == AF_INET6)
        return is_public_ipv6(((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr);
    return false;
}
