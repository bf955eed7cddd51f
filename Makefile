# SPDX-License-Identifier: 0BSD
# make          builds server and client
# make demo     shows them at work on every kind of socket
# make bench    measures the server
# make test     runs the tests (make check is the same)
# make install  as echo-server and echo-client below $(DESTDIR)$(PREFIX)/bin
#
# CC, CPPFLAGS, CFLAGS, LDFLAGS and LDLIBS are yours, as in
#   make clean all CC=clang CFLAGS='-g -fsanitize=address'
# What the source itself needs is in the rules.

CFLAGS ?= -O2
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
STRICT = -std=c11 -Wall -Wextra

all: server client

server: server.c common.h
	$(CC) $(STRICT) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ server.c $(LDLIBS)

client: client.c common.h
	$(CC) $(STRICT) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ client.c $(LDLIBS)

demo: all
	@sh test.sh demo

bench: all
	@sh test.sh bench

test check: all
	@sh test.sh

install: all
	install -d "$(DESTDIR)$(BINDIR)"
	install -m 755 server "$(DESTDIR)$(BINDIR)/echo-server"
	install -m 755 client "$(DESTDIR)$(BINDIR)/echo-client"

uninstall:
	rm -f "$(DESTDIR)$(BINDIR)/echo-server" "$(DESTDIR)$(BINDIR)/echo-client"

clean:
	rm -f server client

.PHONY: all demo bench test check install uninstall clean
