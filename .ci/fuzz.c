/*
 * fuzz.c - what must hold for any text and any address: a libFuzzer target for
 * parse_endpoint(), resolve_endpoint(), format_address() and parse_number().
 *
 * From the project's root; the corpus is copied, for the fuzzer adds to it:
 *
 *   clang -g -O1 -std=c11 -Wall -Wextra -fsanitize=fuzzer,address,undefined \
 *       -fno-sanitize-recover=all -o /tmp/fuzz .ci/fuzz.c
 *   cp -r .ci/corpus /tmp/corpus
 *   /tmp/fuzz -runs=200000 -max_total_time=20 -max_len=300 /tmp/corpus
 */
#define _POSIX_C_SOURCE 200809L /* the same as in common.h */
#include <netdb.h>

/* Nothing here asks a name server: a host is a literal address, or unknown. */
static int numeric_getaddrinfo(const char *host, const char *service,
                               const struct addrinfo *hints,
                               struct addrinfo **list)
{
    struct addrinfo numeric = *hints;

    numeric.ai_flags |= AI_NUMERICHOST;
    return getaddrinfo(host, service, &numeric, list);
}

#define getaddrinfo numeric_getaddrinfo
#include "../common.h"

#undef NDEBUG
#include <assert.h>
#include <limits.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Printed to a terminal, no address may give it orders. */
static void check_text(const char *text)
{
    assert(memchr(text, '\0', ADDRESS_SIZE) != NULL);
    for (; *text != '\0'; text++)
        assert(!iscntrl((unsigned char)*text));
}

/* What parse_endpoint() promises, whatever the text. */
static bool parse(const char *text, struct endpoint *e)
{
    int status = parse_endpoint(text, e);

    assert(e->text == text && e->call == NULL && e->addresses == NULL);
    if (status != 0) {
        assert(status == -1 && e->reason != NULL && *e->reason != '\0');
        return false;
    }
    assert(e->reason == NULL);
    assert(strncmp(text, e->network->name, strlen(e->network->name)) == 0);
    assert(*e->address != '\0');
    assert(memchr(e->host, '\0', HOST_SIZE) != NULL);
    if (e->network->domain == AF_UNIX)
        assert(e->host[0] == '\0');
    else if (isdigit((unsigned char)*e->address)) /* no service's name does */
        assert(parse_number(e->address, 0, 65535) != -1);
    return true;
}

/* What resolve_endpoint() promises, if parse_endpoint() was content. */
static bool resolve(struct endpoint *e)
{
    const bool fits = strlen(e->address) < sizeof e->unix_address.sun_path;
    int status = resolve_endpoint(e, true);

    assert(e->network->domain != AF_UNIX || (status == 0) == fits);
    if (status == 0) {
        assert(e->addresses != NULL && e->reason == NULL);
        return true;
    }
    assert(status == -1 && e->addresses == NULL);
    assert(e->call != NULL && e->reason != NULL);
    return false;
}

/* An address that is printed, and then read, is the same address. */
static void check_round_trip(const struct network *network,
                             const struct addrinfo *info)
{
    char text[ADDRESS_SIZE], path[sizeof(struct sockaddr_un)];
    struct endpoint again;

    assert(format_address(text, network, info->ai_addr, info->ai_addrlen) ==
           text);
    check_text(text);
    assert(parse(text, &again) && again.network == network);
    if (network->domain == AF_UNIX) {
        strcpy(path, ((struct sockaddr_un *)info->ai_addr)->sun_path);
        assert(info->ai_addrlen ==
               offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
        for (char *c = path; *c != '\0'; c++)
            if (iscntrl((unsigned char)*c))
                *c = '?';
        assert(strcmp(again.address, path) == 0);
        return;
    }
    assert(resolve(&again) && again.addresses->ai_next == NULL);
    assert(again.addresses->ai_addrlen == info->ai_addrlen);
    assert(memcmp(again.addresses->ai_addr, info->ai_addr, info->ai_addrlen) ==
           0);
    release_endpoint(&again);
}

static void check_endpoint(const char *text)
{
    struct endpoint e;

    if (!parse(text, &e) || !resolve(&e))
        return;
    for (const struct addrinfo *i = e.addresses; i != NULL; i = i->ai_next) {
        assert(e.network->domain == AF_UNSPEC
                   ? i->ai_family == AF_INET || i->ai_family == AF_INET6
                   : i->ai_family == e.network->domain);
        assert(i->ai_socktype == e.network->type);
        check_round_trip(e.network, i);
    }
    release_endpoint(&e);
    assert(e.addresses == NULL);
}

/* An address from outside: its family is the socket's, all else is anything. */
static void check_address(const struct network *network, sa_family_t family,
                          const uint8_t *data, size_t size)
{
    struct sockaddr *address = malloc(size); /* no byte more: ASan watches */
    char *text = malloc(ADDRESS_SIZE), again[ADDRESS_SIZE];
    struct endpoint e;

    assert(address != NULL && text != NULL);
    memcpy(address, data, size);
    if (size >= sizeof address->sa_family)
        address->sa_family = family;
    assert(format_address(text, network, address, (socklen_t)size) == text);
    check_text(text);
    if (strstr(text, ":(unnamed)") == NULL) {
        assert(parse(text, &e) && e.network == network);
        if (network->domain != AF_UNIX) {
            assert(resolve(&e) && e.addresses->ai_next == NULL);
            format_address(again, network, e.addresses->ai_addr,
                           e.addresses->ai_addrlen);
            assert(strcmp(again, text) == 0);
            release_endpoint(&e);
        }
    }
    free(text);
    free(address);
}

/* parse_number() once more, in other words. */
static void check_number(const char *text, long min, long max)
{
    long expected = 0;

    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9') {
            expected = -1;
            break;
        }
        expected = expected > (LONG_MAX - (*c - '0')) / 10
                       ? LONG_MAX /* and there it stays */
                       : expected * 10 + (*c - '0');
    }
    if (*text == '\0' || expected < min || expected > max)
        expected = -1;
    assert(parse_number(text, min, max) == expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    assert(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    check_endpoint(text);
    check_number(text, 0, 1000000);
    check_number(text, 1, 1000000000);
    check_number(text, 1, LONG_MAX);
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        const struct network *n = &networks[i];

        if (n->domain == AF_UNSPEC) {
            check_address(n, AF_INET, data, size);
            check_address(n, AF_INET6, data, size);
        } else {
            check_address(n, (sa_family_t)n->domain, data, size);
        }
    }
    free(text);
    return 0;
}
