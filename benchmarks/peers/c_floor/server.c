/* One thread, one epoll, and one write of each event for each reader: `server PORT`.
 *
 * It serves what benchmarks/peers/__init__.py asks of streams and channels, and knows no more HTTP than the benchmark
 * speaks: a request is short, and comes in one piece. What a socket doesn't take is kept until it does.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REQUEST = 2048, MAX_TEXT = 1 << 16, MAX_CHUNK = MAX_TEXT + 512, MAX_NAME = 64, MAX_READY = 256 };
enum { TRADE_SIZE = 105 };

static const char HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char LAST_CHUNK[] = "0\r\n\r\n";
static const char *const SYMBOLS[] = {"ERIC-B", "VOLV-B", "NOVO-B", "SAP", "ASML", "SHELL", "NESN", "SAN"};

struct connection;

/* What epoll watches: a socket, or the clock of a connection's ticks or publishes. */
struct watched {
    int fd;
    void (*on_ready)(struct connection *connection, uint32_t events);
    struct connection *connection;
};

struct channel {
    char name[MAX_NAME];
    struct connection *first;
    struct channel *next;
};

struct connection {
    struct watched socket, clock;
    long next_item, items; /* of the stream, or of what is published */
    int size;              /* of what is published */
    int streaming;         /* items are sent whenever the socket takes them */
    char *kept;            /* what the socket didn't take, from here to there */
    size_t kept_from, kept_to;
    struct channel *channel;                /* that is subscribed */
    struct connection *previous, *follower; /* among its subscribers */
    struct channel **targets;               /* that are published to, in turn */
    int number_of_targets;
    int closed;
    struct connection *next_closed;
};

static int poller;
static struct channel *channels;
static struct connection *all_closed; /* freed when no event of this turn can be theirs */

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) fail("calloc");
    return memory;
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static struct timespec seconds(double duration) {
    return (struct timespec){(time_t)duration, (long)((duration - (time_t)duration) * 1e9)};
}

static void watch(struct watched *watched, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = watched};
    if (epoll_ctl(poller, operation, watched->fd, &event)) fail("epoll_ctl");
}

/* -- Items, encoded as chunks of a body ---------------------------------------------------------------------------- */

static char chunk[MAX_CHUNK]; /* the one that was made last */
static char text[MAX_TEXT];   /* of dots */

static double price(long sequence) { return 100.0 + (double)(sequence % 400) * 0.25; }

static size_t as_chunk(const char *json, int length) {
    return (size_t)snprintf(chunk, sizeof chunk, "%x\r\ndata: %s\n\n\r\n", length + 8, json);
}

static size_t quote(long sequence) {
    char json[256];
    return as_chunk(json, snprintf(json, sizeof json, "{\"sequence\":%ld,\"symbol\":\"%s\",\"price\":%.2f,\"at\":%lld}",
                                   sequence, SYMBOLS[sequence % 8], price(sequence), now()));
}

/* In about so many bytes of JSON, if that is more than a trade has. */
static size_t trade(long sequence, int size) {
    static char json[MAX_CHUNK - 64];
    int dots = size - TRADE_SIZE < MAX_TEXT ? size - TRADE_SIZE : MAX_TEXT;
    int length = dots > 0 ? snprintf(json, sizeof json, "{\"text\":\"%.*s\",", dots, text) : snprintf(json, 2, "{");
    length += snprintf(json + length, sizeof json - (size_t)length,
                       "\"sequence\":%ld,\"symbol\":\"%s\",\"price\":%.2f,\"volume\":%ld,\"venue\":\"XSTO\",\"at\":%lld}",
                       sequence, SYMBOLS[sequence % 8], price(sequence), 100 + sequence % 50, now());
    return as_chunk(json, length);
}

/* -- Connections --------------------------------------------------------------------------------------------------- */

static void stop_clock(struct connection *connection) {
    if (connection->clock.fd >= 0) close(connection->clock.fd);
    connection->clock.fd = -1;
}

static void leave_channel(struct connection *connection) {
    struct channel *channel = connection->channel;
    if (connection->follower) connection->follower->previous = connection->previous;
    if (connection->previous) connection->previous->follower = connection->follower;
    if (channel && channel->first == connection) channel->first = connection->follower;
}

static void close_connection(struct connection *connection) {
    if (connection->closed) return;
    connection->closed = 1;
    leave_channel(connection);
    stop_clock(connection);
    close(connection->socket.fd);
    connection->next_closed = all_closed;
    all_closed = connection;
}

static void free_closed(void) {
    while (all_closed) {
        struct connection *connection = all_closed;
        all_closed = connection->next_closed;
        free(connection->kept);
        free(connection->targets);
        free(connection);
    }
}

static void keep(struct connection *connection, const char *data, size_t size) {
    if (!connection->kept_to) watch(&connection->socket, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    connection->kept = realloc(connection->kept, connection->kept_to + size);
    if (!connection->kept) fail("realloc");
    memcpy(connection->kept + connection->kept_to, data, size);
    connection->kept_to += size;
}

/* How many bytes the socket takes; -1 if its other end is gone. */
static ssize_t write_some(struct connection *connection, const char *data, size_t size) {
    ssize_t taken = send(connection->socket.fd, data, size, MSG_NOSIGNAL);
    return taken < 0 && errno == EAGAIN ? 0 : taken;
}

static void send_or_keep(struct connection *connection, const char *data, size_t size) {
    ssize_t taken = connection->kept_to ? 0 : write_some(connection, data, size);
    /* A lost connection is closed when epoll says so. */
    if (taken >= 0 && (size_t)taken < size) keep(connection, data + taken, size - (size_t)taken);
}

static void send_kept(struct connection *connection) {
    size_t left = connection->kept_to - connection->kept_from;
    ssize_t taken = write_some(connection, connection->kept + connection->kept_from, left);
    if (taken > 0) connection->kept_from += (size_t)taken;
    if (connection->kept_from == connection->kept_to) {
        connection->kept_from = connection->kept_to = 0;
        watch(&connection->socket, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void send_quote(struct connection *connection) {
    send_or_keep(connection, chunk, quote(connection->next_item++));
    if (connection->next_item == connection->items) {
        connection->streaming = 0;
        stop_clock(connection);
        send_or_keep(connection, LAST_CHUNK, sizeof LAST_CHUNK - 1);
    }
}

static void stream(struct connection *connection) {
    while (connection->streaming && !connection->kept_to) send_quote(connection);
}

/* -- What runs by a clock ------------------------------------------------------------------------------------------ */

static void start_clock(struct connection *connection, int fd, void (*on_ready)(struct connection *, uint32_t)) {
    if (fd < 0) fail("a clock");
    connection->clock = (struct watched){fd, on_ready, connection};
    watch(&connection->clock, EPOLL_CTL_ADD, EPOLLIN);
}

static int every(double first, double interval) {
    struct itimerspec times = {.it_value = seconds(first), .it_interval = seconds(interval)};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (fd >= 0 && timerfd_settime(fd, 0, &times, NULL)) fail("timerfd_settime");
    return fd;
}

static long due(struct connection *connection) {
    uint64_t times = 0;
    if (read(connection->clock.fd, &times, sizeof times) != sizeof times) return 0;
    long left = connection->items - connection->next_item;
    return (long)times < left ? (long)times : left;
}

static void on_tick(struct connection *connection, uint32_t events) {
    (void)events;
    for (long left = due(connection); left > 0; left--) send_quote(connection);
}

static void publish(struct connection *connection) {
    static const char PUBLISHED[] = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}";
    int targets = connection->number_of_targets;
    struct channel *channel = connection->targets[connection->next_item % targets];
    size_t size = trade(connection->next_item++ / targets, connection->size);
    for (struct connection *each = channel->first; each; each = each->follower) send_or_keep(each, chunk, size);
    if (connection->next_item == connection->items) {
        write_some(connection, PUBLISHED, sizeof PUBLISHED - 1);
        close_connection(connection);
    }
}

static void on_publish_due(struct connection *connection, uint32_t events) {
    (void)events;
    for (long left = due(connection); left > 0; left--) publish(connection);
}

/* One turn of the loop for each event, as with the other peers: this clock is always ready. */
static void on_publish_turn(struct connection *connection, uint32_t events) {
    (void)events;
    publish(connection);
}

/* -- Requests ------------------------------------------------------------------------------------------------------ */

static struct channel *channel_of(const char *name) {
    struct channel *channel = channels;
    while (channel && strcmp(channel->name, name)) channel = channel->next;
    if (!channel) {
        channel = allocate(sizeof *channel);
        snprintf(channel->name, sizeof channel->name, "%s", name);
        channel->next = channels;
        channels = channel;
    }
    return channel;
}

static void subscribe(struct connection *connection, const char *name) {
    struct channel *channel = connection->channel = channel_of(name);
    connection->follower = channel->first;
    if (channel->first) channel->first->previous = connection;
    channel->first = connection;
}

/* The value of a query's field; it is no longer than a channel's name. */
static const char *value_of(const char *target, const char *field) {
    static char value[MAX_NAME];
    size_t length = strlen(field);
    value[0] = 0;
    for (const char *at = strchr(target, '?'); at; at = strchr(at + 1, '&')) {
        if (strncmp(at + 1, field, length) || at[length + 1] != '=') continue;
        const char *start = at + length + 2;
        snprintf(value, sizeof value, "%.*s", (int)strcspn(start, "& "), start);
        break;
    }
    return value;
}

static void start_publishing(struct connection *connection, const char *target) {
    double rate = atof(value_of(target, "rate"));
    int channels = atoi(value_of(target, "channels"));
    char first[MAX_NAME], name[MAX_NAME + 16];
    strcpy(first, value_of(target, "channel"));
    connection->size = atoi(value_of(target, "size"));
    connection->number_of_targets = channels > 0 ? channels : 1;
    connection->targets = allocate((size_t)connection->number_of_targets * sizeof *connection->targets);
    connection->targets[0] = channel_of(first);
    for (int number = 1; number < connection->number_of_targets; number++) {
        snprintf(name, sizeof name, "%s-%d", first, number);
        connection->targets[number] = channel_of(name);
    }
    connection->items *= connection->number_of_targets;
    if (rate > 0)
        start_clock(connection, every(1e-9, 1 / rate / connection->number_of_targets), on_publish_due);
    else
        start_clock(connection, eventfd(1, EFD_NONBLOCK), on_publish_turn);
}

static int asks_for(const char *target, const char *path) {
    size_t length = strlen(path);
    return !strncmp(target, path, length) && (target[length] == '?' || target[length] == ' ');
}

static void answer(struct connection *connection, const char *target) {
    static const char TASKS[] = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"tasks\":0}";
    connection->next_item = 0;
    connection->items = atol(value_of(target, "n"));
    if (asks_for(target, "/publish")) {
        start_publishing(connection, target);
        return;
    }
    if (asks_for(target, "/tasks")) { /* they are asyncio's, and there are none here */
        write_some(connection, TASKS, sizeof TASKS - 1);
        close_connection(connection);
        return;
    }
    send_or_keep(connection, HEAD, sizeof HEAD - 1);
    if (asks_for(target, "/quotes")) {
        connection->streaming = 1;
        stream(connection);
    } else if (asks_for(target, "/ticks")) {
        double interval = atof(value_of(target, "interval"));
        start_clock(connection, every(interval, interval), on_tick);
    } else if (asks_for(target, "/subscribe")) {
        subscribe(connection, value_of(target, "channel"));
    }
}

static void on_socket_ready(struct connection *connection, uint32_t events) {
    char request[MAX_REQUEST];
    if (events & EPOLLOUT) {
        send_kept(connection);
        stream(connection);
    }
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP))) return;
    ssize_t size = read(connection->socket.fd, request, sizeof request - 1);
    if (size < 0 && errno == EAGAIN) return;
    request[size > 0 ? size : 0] = 0;
    const char *target = strchr(request, ' ');
    if (size <= 0 || !target || !strstr(request, "\r\n\r\n"))
        close_connection(connection);
    else
        answer(connection, target + 1);
}

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *connection = allocate(sizeof *connection);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection->socket = (struct watched){fd, on_socket_ready, connection};
        connection->clock.fd = -1;
        watch(&connection->socket, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int count, char **words) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct watched listener = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};
    struct epoll_event ready[MAX_READY];
    int on = 1;
    if (count != 2) return 2;
    address.sin_port = htons((uint16_t)atoi(words[1]));
    setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener.fd, (struct sockaddr *)&address, sizeof address) || listen(listener.fd, 4096)) fail("listen");
    memset(text, '.', sizeof text);
    poller = epoll_create1(0);
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int number = epoll_wait(poller, ready, MAX_READY, -1);
        for (int i = 0; i < number; i++) {
            struct watched *watched = ready[i].data.ptr;
            if (watched == &listener)
                accept_all(listener.fd);
            else if (!watched->connection->closed && watched->fd >= 0)
                watched->on_ready(watched->connection, ready[i].events);
        }
        free_closed();
    }
}
