// -finstrument-functions: every function passes its own address to hooks.
//@ flags: -finstrument-functions
#include "../program.h"
#include <stdio.h>
#define NO_HOOK __attribute__((no_instrument_function))
int a(int), b(int);
static int entered, left, named;
NO_HOOK void __cyg_profile_func_enter(void *function, void *site) { entered++; named += (function == (void *)a) + 100 * (function == (void *)b); if (!site) puts("no site"); }
NO_HOOK void __cyg_profile_func_exit(void *function, void *site) { (void)function; (void)site; left++; }
NOINLINE int a(int x) { return x <= 0 ? 1 : b(x - 1) + 1; }
NOINLINE int b(int x) { return x <= 0 ? 2 : a(x - 2) * 2; }
PROGRAM { int r = a(9); printf("%d %d %d %d\n", r, entered - left, named, left > 0); return 0; }
