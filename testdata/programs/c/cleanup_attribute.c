// __attribute__((cleanup)): on return, on goto, and by forced unwinding when a thread exits or is cancelled.
//@ build: kinds=exec,pie,so
//@ flags: -fexceptions -pthread
#include "../program.h"
#include <pthread.h>
#include <stdio.h>
static void closed(int *p) { printf("close %d\n", *p); }
NOINLINE int scoped(int n) {
    __attribute__((cleanup(closed))) int a = n;
    if (n > 2) {
        __attribute__((cleanup(closed))) int b = n * 10;
        if (n > 3) goto out;
        return b;
    }
    return a + 1;
out:
    puts("out");
    return 0;
}
NOINLINE void leave_thread(int n) {
    __attribute__((cleanup(closed))) int c = n * 100;
    if (n > 0) leave_thread(n - 1);
    else pthread_exit((void *)5L);
    puts("never");
}
static void *exits(void *unused) {
    __attribute__((cleanup(closed))) int d = 7;
    leave_thread(2);
    return unused;
}
static void handler(void *text) { puts(text); }
static void *cancelled(void *unused) {
    __attribute__((cleanup(closed))) int e = 8;
    pthread_cleanup_push(handler, "cancel handler");
    pthread_cancel(pthread_self());
    pthread_testcancel();
    pthread_cleanup_pop(0);
    return unused;
}
PROGRAM {
    for (int i = 1; i < 6; i++) printf("%d\n", scoped(i));
    pthread_t thread;
    void *result;
    pthread_create(&thread, 0, exits, 0);
    pthread_join(thread, &result);
    printf("%ld\n", (long)result);
    pthread_create(&thread, 0, cancelled, 0);
    pthread_join(thread, &result);
    printf("%d\n", result == PTHREAD_CANCELED);
    return 0;
}
