/*
 * fuzz.c - what must hold for any text and any address: a libFuzzer target for
 * the functions of common.h. .ci/run compiles and runs it.
 */
#define _GNU_SOURCE
#include <netdb.h>

/* Asks no name server: a host is a literal address, or unknown. */
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
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An address is printed without control characters, within its array. One that
 * was printed can be read, and is then the same. */
static void check_text(const struct network *n, const struct sockaddr *address,
                       socklen_t len)
{
    char *text = malloc(TEXT_SIZE), again[TEXT_SIZE];
    struct addrinfo *list;
    struct endpoint e;

    assert(text != NULL);
    format_address(text, n, address, len);
    assert(memchr(text, '\0', TEXT_SIZE) != NULL);
    for (const char *c = text; *c != '\0'; c++)
        assert(!iscntrl((unsigned char)*c));
    /* A path can fill its array, without a NUL; such an endpoint is refused.
     * One that begins with "//" would be taken for the rest of a URL. */
    if (strstr(text, "(unnamed)") == NULL && strstr(text, "://") == NULL &&
        (n->domain != AF_UNIX || strlen(strchr(text, ':')) <= 108)) {
        assert(parse_endpoint(&e, text) == NULL && e.network == n);
        assert(resolve_endpoint(&e, &list) == NULL);
        format_address(again, n, list->ai_addr, list->ai_addrlen);
        assert(strcmp(again, text) == 0);
        if (n->domain != AF_UNIX)
            freeaddrinfo(list);
    }
    free(text);
}

static void check_endpoint(const char *text)
{
    const size_t path_max = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    struct addrinfo *list;
    struct endpoint e;
    const char *problem = parse_endpoint(&e, text);

    if (problem != NULL) {
        assert(*problem != '\0' && memchr(problem, '\0', 400) != NULL);
        return;
    }
    assert(e.network != NULL);
    assert(*e.addr != '\0' && memchr(e.copy, '\0', TEXT_SIZE) != NULL);
    if (e.network->domain == AF_UNIX)
        assert(*e.host == '\0' && strlen(e.addr) <= path_max);
    if (resolve_endpoint(&e, &list) != NULL)
        return;
    for (const struct addrinfo *i = list; i != NULL; i = i->ai_next)
        if (e.network->domain != AF_UNIX)
            check_text(e.network, i->ai_addr, i->ai_addrlen);
    if (e.network->domain != AF_UNIX)
        freeaddrinfo(list);
}

/* An address from outside: its family is the socket's, all else is anything. */
static void check_address(const struct network *n, sa_family_t family,
                          const uint8_t *data, size_t size)
{
    struct sockaddr *address = malloc(sizeof(struct sockaddr_storage));
    const size_t max = sizeof(struct sockaddr_storage);

    assert(address != NULL);
    memset(address, 'x', max);
    memcpy(address, data, size < max ? size : max);
    address->sa_family = family;
    if (n->domain == AF_UNIX && size > sizeof(struct sockaddr_un))
        size = sizeof(struct sockaddr_un);
    check_text(n, address, (socklen_t)(size < max ? size : max));
    free(address);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    assert(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    check_endpoint(text);
    for (const struct network *n = networks; n->name != NULL; n++) {
        if (n->domain == AF_UNSPEC)
            check_address(n, AF_INET, data, size);
        check_address(n, n->domain ? (sa_family_t)n->domain : AF_INET6, data,
                      size);
    }
    free(text);
    return 0;
}
