/* flush.h - for coverage.sh: who leaves by _exit() writes what it has counted first. */
#define _DEFAULT_SOURCE /* as in server.c, for this comes before it */
#include "../common.h"
#undef _DEFAULT_SOURCE
void __gcov_dump(void);
#define _exit(status) (__gcov_dump(), _exit(status))
