// A load client for servers that speak RESP: one thread, epoll, so that the servers are the bottleneck.
//
//   resp_load load     ADDRESS CONNECTIONS DEPTH GET SECONDS   closed loop: DEPTH requests in flight on each connection
//   resp_load storm    ADDRESS CONNECTIONS                     all connect at once, and each sends one SET
//   resp_load failover ADDRESS,ADDRESS PID SIGNAL              signal a process, and SET every 2 ms until one is answered
//   resp_load sweep    ADDRESS KEYS                            SET each key once, 16 connections with 60 in flight
//
// "load" says "ready" on a line when it starts to count, after a warm-up of half a second. Each mode ends with one line
// of JSON. Values have 256 bytes, keys are random among 100,000. Compiled with -DWITH_TLS, "load", "failover" and
// "sweep" use TLS at every address, and take whatever certificate they see.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
#endif

enum { VALUE = 256, KEYS = 100000, REQUEST = VALUE + 64, INPUT = 1 << 17, BUCKETS = 4096 };
static const double WARM_UP = 0.5, PATIENCE = 30;

typedef struct {
    int fd, waiting;       // requests in flight
    int oldest, depth;     // `sent` is a ring: place of the oldest request in flight
    double *sent;
    char *in, *out;
    size_t held, unsent;   // bytes of `in`, and of `out`
#ifdef WITH_TLS
    SSL *tls;
#endif
} Connection;

static int poller;
static int gets;
static long sweep_from, sweep_to;
static uint64_t dice = 88172645463325252ULL;
static char value[VALUE];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double processor(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

static uint64_t roll(void) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice;
}

static void fail(const char *what) {
    fprintf(stderr, "resp_load: %s: %s\n", what, strerror(errno));
    exit(3);
}

static void dial(Connection *c, const char *address, int wait) {
    char host[64];
    snprintf(host, sizeof host, "%s", address);
    char *colon = strrchr(host, ':');
    if (!colon) fail("no port in the address");
    *colon = 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
    inet_pton(AF_INET, host, &to.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (!wait) fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (connect(c->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) fail("connect");
#ifdef WITH_TLS
    static SSL_CTX *context;
    if (!context && !(context = SSL_CTX_new(TLS_client_method()))) fail("TLS");
    if (!wait || !(c->tls = SSL_new(context)) || !SSL_set_fd(c->tls, c->fd) || SSL_connect(c->tls) != 1) fail("TLS");
#endif
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

static void open_connections(Connection *all, int count, int depth, char *const *addresses, int places, int wait) {
    for (int i = 0; i < count; i++) {
        Connection *c = &all[i];
        *c = (Connection){.depth = depth, .sent = calloc(depth, sizeof(double)), .in = malloc(INPUT),
                          .out = malloc((size_t)REQUEST * depth)};
        dial(c, addresses[i % places], wait);
        struct epoll_event event = {wait ? EPOLLIN : EPOLLIN | EPOLLOUT, {.u32 = i}};
        epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
    }
}

static void add_request(Connection *c, double at) {
    char *out = c->out + c->unsent;
    long key = sweep_to ? sweep_from++ : (long)(roll() % KEYS);
    int n = gets ? sprintf(out, "*2\r\n$3\r\nGET\r\n$8\r\n%08ld\r\n", key)
                 : sprintf(out, "*3\r\n$3\r\nSET\r\n$8\r\n%08ld\r\n$%d\r\n", key, VALUE);
    if (!gets) {
        memcpy(out + n, value, VALUE);
        n += VALUE;
        out[n++] = '\r';
        out[n++] = '\n';
    }
    c->unsent += n;
    c->sent[(c->oldest + c->waiting++) % c->depth] = at;
}

#ifdef WITH_TLS
static ssize_t send_some(Connection *c, const char *data, size_t size) {
    int n = SSL_write(c->tls, data, (int)size);
    if (n > 0) return n;
    errno = SSL_get_error(c->tls, n) == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
    return -1;
}

// Takes all that has come: what TLS has decrypted already wakes no epoll. Part of a record counts as progress.
static ssize_t receive(Connection *c) {
    while (c->held < INPUT) {
        int n = SSL_read(c->tls, c->in + c->held, (int)(INPUT - c->held));
        if (n <= 0) return SSL_get_error(c->tls, n) == SSL_ERROR_WANT_READ ? 1 : 0;
        c->held += n;
    }
    return 1;
}
#else
static ssize_t send_some(Connection *c, const char *data, size_t size) { return write(c->fd, data, size); }

static ssize_t receive(Connection *c) {
    ssize_t n = read(c->fd, c->in + c->held, INPUT - c->held);
    if (n > 0) c->held += n;
    return n;
}
#endif

static void flush_out(Connection *c) {
    size_t done = 0;
    while (done < c->unsent) {
        ssize_t n = send_some(c, c->out + done, c->unsent - done);
        if (n >= 0) done += n;
        else if (errno != EAGAIN && errno != EINTR) fail("write");  // a full socket: its server reads soon
    }
    c->unsent = 0;
}

// Length of the reply at `at`, 0 while it is incomplete.
static size_t reply_length(const char *at, size_t held) {
    const char *end = memmem(at, held, "\r\n", 2);
    if (!end) return 0;
    size_t line = end - at + 2;
    long bulk = at[0] == '$' ? atol(at + 1) : -1;
    if (bulk < 0) return line;
    return held >= line + bulk + 2 ? line + bulk + 2 : 0;
}

// Microseconds in buckets of 1 %.
static long histogram[BUCKETS], counted, errors;
static double longest;
static char first_error[100];

static void count(double seconds) {
    double us = seconds * 1e6;
    int bucket = us < 1 ? 0 : (int)(log(us) / log(1.01));
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    counted++;
    if (seconds > longest) longest = seconds;
}

static double quantile_ms(double part) {
    long wanted = (long)(part * (counted - 1)) + 1, seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) >= wanted) return pow(1.01, i + 0.5) / 1e3;
    return 0;
}

static void note_error(const char *reply, size_t size) {
    if (!errors++) snprintf(first_error, sizeof first_error, "%.*s", (int)(size > 92 ? 90 : size - 2), reply);
}

static void load(const char *address, int connections, int depth, double seconds) {
    Connection *all = calloc(connections, sizeof(Connection));
    open_connections(all, connections, depth, (char *const *)&address, 1, 1);
    double begin = now() + (sweep_to ? 0 : WARM_UP), end = sweep_to ? 1e18 : begin + seconds, used = processor();
    int ready = 0;
    long total = 0, before = 0, wanted = sweep_to;
    for (int i = 0; i < connections; i++) {
        for (int j = 0; j < depth; j++) add_request(&all[i], now());
        flush_out(&all[i]);
    }
    for (double t = now(); t < end && !(wanted && total >= wanted); t = now()) {
        if (!ready && t >= begin) {
            ready = 1;
            before = total;
            used = processor();
            puts("ready");
            fflush(stdout);
        }
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < n; i++) {
            Connection *c = &all[events[i].data.u32];
            if (receive(c) <= 0) fail("the server closed a connection");
            t = now();
            size_t at = 0, size;
            while ((size = reply_length(c->in + at, c->held - at))) {
                double sent = c->sent[c->oldest];
                c->oldest = (c->oldest + 1) % depth;
                c->waiting--;
                total++;
                if (c->in[at] == '-') note_error(c->in + at, size);
                else if (sent >= begin) count(t - sent);
                at += size;
                if (!wanted || sweep_from < wanted) add_request(c, t);
            }
            memmove(c->in, c->in + at, c->held -= at);
            flush_out(c);
        }
    }
    double took = now() - begin;
    printf("{\"operations\": %ld, \"per_second\": %.1f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"longest_ms\": %.3f, "
           "\"client_processor\": %.3f, \"errors\": %ld, \"first_error\": \"%s\"}\n",
           total - before, (total - before) / took, quantile_ms(.5), quantile_ms(.99), longest * 1e3,
           (processor() - used) / took, errors, first_error);
}

static void storm(const char *address, int connections) {
    Connection *all = calloc(connections, sizeof(Connection));
    double begin = now();
    open_connections(all, connections, 1, (char *const *)&address, 1, 0);
    double connected = now();
    int answered = 0;
    while (answered < connections && now() < connected + PATIENCE) {
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < n; i++) {
            Connection *c = &all[events[i].data.u32];
            if (events[i].events & EPOLLOUT && !c->waiting) {
                struct epoll_event event = {EPOLLIN, events[i].data};
                epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
                add_request(c, now());
                flush_out(c);
            }
            if (!(events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))) continue;
            if (receive(c) <= 0) {
                epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
                errors++;
                answered++;
                continue;
            }
            size_t size = reply_length(c->in, c->held);
            if (!size) continue;
            if (c->in[0] == '-') note_error(c->in, size);
            c->held = 0;
            answered++;
        }
    }
    double done = now();
    printf("{\"connections\": %d, \"answered\": %d, \"connecting_ms\": %.1f, \"all_served_ms\": %.1f, "
           "\"errors\": %ld, \"first_error\": \"%s\"}\n",
           connections, answered, (connected - begin) * 1e3, (done - connected) * 1e3, errors, first_error);
}

static void failover(char *list, int pid, int number) {
    char *addresses[16] = {0};
    int places = 0, each = 300;
    for (char *a = strtok(list, ","); a && places < 16; a = strtok(NULL, ",")) addresses[places++] = a;
    int connections = places * each;
    Connection *all = calloc(connections, sizeof(Connection));
    open_connections(all, connections, 1, addresses, places, 1);
    for (int i = 0; i < connections; i++) {  // all are accepted, and the way through each node is open
        add_request(&all[i], 0);
        flush_out(&all[i]);
        double until = now() + PATIENCE;
        while (!reply_length(all[i].in, all[i].held) && now() < until) receive(&all[i]);
        if (all[i].in[0] != '+') fail("the cluster is not ready");
        all[i].held = all[i].waiting = 0;
    }
    double begin = now(), next = begin;
    kill(pid, number);
    for (long turn = 0; now() < begin + PATIENCE;) {
        if (now() >= next) {
            next += 0.002;
            for (int i = turn++ % places; i < connections; i += places)
                if (!all[i].waiting) {
                    add_request(&all[i], now());
                    flush_out(&all[i]);
                    break;
                }
        }
        struct epoll_event events[64];
        int n = epoll_wait(poller, events, 64, 1);
        for (int i = 0; i < n; i++) {
            Connection *c = &all[events[i].data.u32];
            if (receive(c) <= 0) {
                epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
                errors++;
                continue;
            }
            size_t size = reply_length(c->in, c->held);
            if (!size) continue;
            if (c->in[0] == '+') {
                printf("{\"failover_ms\": %.2f, \"errors\": %ld, \"first_error\": \"%s\"}\n", (now() - begin) * 1e3,
                       errors, first_error);
                return;
            }
            note_error(c->in, size);
            c->held = c->waiting = 0;
        }
    }
    printf("{\"failover_ms\": null, \"errors\": %ld, \"first_error\": \"%s\"}\n", errors, first_error);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(0);
    dice ^= (uint64_t)getpid() * 0x9E3779B97F4A7C15ULL;
    for (int i = 0; i < VALUE; i++) value[i] = 33 + roll() % 90;
    if (argc == 7 && !strcmp(argv[1], "load")) {
        gets = atoi(argv[5]);
        load(argv[2], atoi(argv[3]), atoi(argv[4]), atof(argv[6]));
    } else if (argc == 4 && !strcmp(argv[1], "storm")) {
        storm(argv[2], atoi(argv[3]));
    } else if (argc == 5 && !strcmp(argv[1], "failover")) {
        failover(argv[2], atoi(argv[3]), atoi(argv[4]));
    } else if (argc == 4 && !strcmp(argv[1], "sweep")) {
        sweep_to = atol(argv[3]);
        load(argv[2], 16, 60, 0);
    } else {
        fprintf(stderr, "resp_load: see the head of resp_load.c for its arguments\n");
        return 2;
    }
    return 0;
}
