// Threads with thread-local state, a mutex, a condition and once-initialization.
//@ flags: -pthread
#include "../program.h"
#include <pthread.h>
#include <stdio.h>
static __thread int mine = 100;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int turn, total;
static void at_thread_end(void *value) { pthread_mutex_lock(&lock); total += *(int *)value; pthread_mutex_unlock(&lock); }
static void initialize(void) { puts("once"); pthread_key_create(&key, at_thread_end); }
static void *work(void *argument) {
    int id = (int)(long)argument;
    pthread_once(&once, initialize);
    for (int i = 0; i <= id; i++) mine += i;
    pthread_setspecific(key, &mine);
    pthread_mutex_lock(&lock);
    while (turn != id) pthread_cond_wait(&turn_changed, &lock);
    printf("thread %d has %d\n", id, mine);
    turn++;
    pthread_cond_broadcast(&turn_changed);
    pthread_mutex_unlock(&lock);
    if (id & 1) pthread_exit((void *)(long)(id * 2));
    return (void *)(long)id;
}
PROGRAM {
    pthread_t threads[6];
    long sum = 0;
    for (long i = 0; i < 6; i++) pthread_create(&threads[i], 0, work, (void *)i);
    for (int i = 0; i < 6; i++) { void *result; pthread_join(threads[i], &result); sum += (long)result; }
    printf("%ld %d %d\n", sum, total, mine);
    return 0;
}
