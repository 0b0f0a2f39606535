// Aliases: weak and strong, one address under several names; overridden weak definitions; hidden and protected functions.
#include "../program.h"
#include <stdio.h>
int original(int x) { return x + 3; }
int strong_alias(int x) __attribute__((alias("original")));
int weak_alias(int x) __attribute__((weak, alias("original")));
static int local_alias(int x) __attribute__((alias("original")));
__attribute__((visibility("hidden"))) int hidden(int x) { return original(x) * 2; }
__attribute__((visibility("protected"))) int protected_function(int x) { return x * 7; }
int data = 5;
extern int data_alias __attribute__((alias("data")));
PROGRAM {
    printf("%d %d %d %d\n", original(1), strong_alias(1), weak_alias(1), local_alias(1));
    printf("%d %d\n", original == strong_alias, strong_alias == weak_alias);
    data_alias = 9;
    printf("%d %d %d\n", data, hidden(2), protected_function(3));
    return 0;
}
