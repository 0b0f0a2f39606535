// Linked with c/copy_relocation.c: data that is copied, functions that may be overridden.
int shared_variable = 1;
int shared_function(int x) { return x * 10 + shared_variable; }
int overridden(int x) { return x + 1; }
int shared_calls_overridden(int x) { return overridden(x); }
int (*const shared_table[2])(int) = {shared_function, shared_calls_overridden};
int shared_read(void) { return shared_variable; }
int shared_is(int (*f)(int)) { return f == shared_function; }
