/* Which socket addresses belong to the open internet. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <sys/socket.h>

/* False for every address that could reach this machine or a private network: unspecified, loopback, private,
 * link-local, carrier-grade NAT, multicast, reserved, documentation and benchmark ranges, and IPv6 forms that
 * carry such an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo, ISATAP); and for any family but IPv4
 * and IPv6. */
bool address_is_public(const struct sockaddr *address);
