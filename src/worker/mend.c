/* SPDX-License-Identifier: Apache-2.0 */
/* The verb mend: changes what is inside a disk. Its file systems are mounted by a kernel of their
 * own, in a machine that lives for seconds (the appliance, src/appliance); what is changed lands in
 * the head of the chain. The appliance has the disk and nothing else, and it may be full of hostile
 * bytes: nothing it says is believed, all of it is bounded. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "appliance/frame.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "mend-private.h"
#include "qcow2/chain.h"

enum {
    KVM_S = 60,
    TCG_S = 300,
    LOOK_MS = 1000,
    LEAVING_S = 30,         /* from its last word to its end */
    CONSOLE_MAX = 4096,     /* the end of what its console said */
    OUTPUTS_MAX = 96 << 10, /* of all programs of a request: escaped, it still is one line */
    OUTPUT_LATER = 1024,    /* of each program beyond that */
    EDITS_MAX = 10000,
    MOUNTS_MAX = 64,
    OWN_LINK = 512
};
#define MEMORY (512ull << 20)

/* --- The running appliance -------------------------------------------------------------------- */

struct mend {
    const struct wire_value *mounts, *edits;
    struct frame_link link;
    pid_t pid;
    int console;    /* -1: closed, so it has ended */
    int64_t end_ms; /* when it is given up */
    int64_t limit_s, began_ms;
    size_t done, total; /* edits */
    struct im_str said; /* the last of its console */
    char kernel[80];
    size_t outputs;
    struct wire_writer result;
};

/* Keeps the end of it. */
static void hear_console(struct mend *mend) {
    char buffer[2048];
    ssize_t got = read(mend->console, buffer, sizeof(buffer));

    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got <= 0) {
        (void) close(mend->console);
        mend->console = -1;
        return;
    }
    im_str_add_bytes(&mend->said, buffer, (size_t) got);
    if (mend->said.len > 2 * CONSOLE_MAX) {
        memmove(mend->said.data, mend->said.data + mend->said.len - CONSOLE_MAX, CONSOLE_MAX);
        mend->said.len = CONSOLE_MAX;
    }
}

/* The last line of the console that says anything, without control characters. */
static const char *last_said(struct mend *mend) {
    char *text, *line;
    size_t len = mend->said.len;

    for (size_t i = 0; i < len; i++) {
        char *c = mend->said.data + i;

        if (*c != '\n' && (*c < ' ' || *c > '~'))
            *c = ' ';
    }
    im_str_add(&mend->said, "");
    im_debug("worker", "the appliance's console: %s", mend->said.data);
    text = mend->said.data;
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    line = strrchr(text, '\n');
    return line ? line + 1 : text;
}

/* It went without leave. What it still says comes first. */
static bool ended(void *arg, struct im_err *err) {
    struct mend *mend = arg;
    int64_t end_ms = im_mono_ms() + LOOK_MS;
    const char *line;

    while (mend->console >= 0 && im_mono_ms() < end_ms) {
        struct pollfd ready = {mend->console, POLLIN, 0};

        if (poll(&ready, 1, LOOK_MS) > 0)
            hear_console(mend);
    }
    line = last_said(mend);

    return im_fail(err, IM_UNSUPPORTED, "the appliance ended before its work was done%s%.200s",
                   line[0] ? ": " : "", line);
}

/* Until the link can be read or written; hears the console meanwhile, and minds the time. */
static bool link_ready(void *arg, int fd, short events, struct im_err *err) {
    struct mend *mend = arg;

    for (;;) {
        struct pollfd fds[2] = {{fd, events, 0}, {mend->console, POLLIN, 0}};
        int64_t left = mend->end_ms - im_mono_ms();

        if (left <= 0)
            return im_fail(err, IM_TIMEOUT, "the appliance was not done within %lld seconds",
                           (long long) mend->limit_s);
        report_progress(mend->kernel[0] ? "mend" : "start", mend->done, mend->total);
        if (poll(fds, 2, left < LOOK_MS ? (int) left : LOOK_MS) < 0 && errno != EINTR)
            return im_fail_sys(err, errno, "the appliance cannot be heard");
        if (fds[1].revents)
            hear_console(mend);
        if (fds[0].revents & events)
            return true;
        if (mend->console < 0 || (fds[0].revents & (POLLHUP | POLLERR)))
            return ended(mend, err);
    }
}

/* --- Orders ----------------------------------------------------------------------------------- */

static bool add_data(struct frame *frame, const char *text, struct im_err *err) {
    size_t len = strlen(text), pad = 0;
    int got;

    if (len > FRAME_DATA_MAX / 3 * 4)
        return im_fail(err, IM_BAD_MESSAGE, "data is longer than %u bytes", FRAME_DATA_MAX);
    if (len == 0)
        return true;
    for (size_t i = len; i > 0 && text[i - 1] == '='; i--)
        pad++;
    got = len % 4 == 0 && pad <= 2
              ? EVP_DecodeBlock((unsigned char *) im_str_reserve(&frame->data, len / 4 * 3),
                                (const unsigned char *) text, (int) len)
              : -1;
    if (got < 0)
        return im_fail(err, IM_BAD_MESSAGE, "data is not base64");
    frame->data.len = (size_t) got - pad;
    return true;
}

/* Each member of the edit is a word; `data` is bytes, each word of `argv` an argument. */
static bool edit_frame(const struct wire_value *edit, struct frame *frame, struct im_err *err) {
    for (size_t i = 0; i < wire_count(edit); i++) {
        const struct wire_value *member = wire_member_at(edit, i);
        const char *key = wire_key_at(edit, i);
        enum wire_kind kind = wire_kind(member);

        if (kind == WIRE_TEXT && strcmp(key, "data") == 0) {
            if (!add_data(frame, wire_as_text(member, ""), err))
                return false;
        } else if (kind == WIRE_TEXT) {
            frame_put(frame, key, wire_as_text(member, ""));
        } else if (kind == WIRE_INT || kind == WIRE_BOOL) {
            frame_put_int(frame, key, wire_as_int(member, 0));
        } else if (kind == WIRE_ARRAY && strcmp(key, "argv") == 0) {
            for (size_t k = 0; k < wire_count(member); k++)
                frame_put(frame, "argument", wire_as_text(wire_at(member, k), ""));
        } else
            return im_fail(err, IM_BAD_MESSAGE, "[%.32s] of an edit is of the wrong kind", key);
    }
    return true;
}

static void piece_words(const struct wire_value *piece, struct frame *frame) {
    const struct wire_value *areas = wire_get(piece, "areas");
    struct im_str text = {0};

    im_str_addf(&text, "%lld %lld", (long long) wire_get_int(piece, "bytes", 0),
                (long long) wire_get_int(piece, "stripe_bytes", 0));
    for (size_t i = 0; i < wire_count(areas); i++)
        im_str_addf(&text, " %lld", (long long) wire_as_int(wire_at(areas, i), -1));
    frame_put(frame, "piece", text.data);
    im_str_done(&text);
}

static void mount_frame(const struct wire_value *mount, struct frame *frame) {
    const struct wire_value *pieces = wire_get(mount, "pieces");

    frame_put(frame, "op", "mount");
    frame_put(frame, "path", wire_get_text(mount, "path", ""));
    frame_put(frame, "filesystem", wire_get_text(mount, "filesystem", ""));
    frame_put(frame, "options", wire_get_text(mount, "options", ""));
    for (size_t i = 0; i < wire_count(pieces); i++)
        piece_words(wire_at(pieces, i), frame);
}

/* Sends the order and takes its answer; an edit that failed is an error. */
static bool order(struct mend *mend, const struct frame *frame, struct frame *answer,
                  struct im_err *err) {
    const char *error;

    if (!frame_send(&mend->link, frame, err) || !frame_receive(&mend->link, answer, err))
        return false;
    if (frame_get_int(answer, "done", 0) == 1)
        return true;
    error = frame_get(answer, "error");
    return im_fail(err, IM_BAD_IMAGE, "%.400s", error ? error : "it failed without a word");
}

static bool do_mount(struct mend *mend, const struct wire_value *mount, struct im_err *err) {
    struct frame frame = {0}, answer = {0};
    bool fine;

    mount_frame(mount, &frame);
    fine = order(mend, &frame, &answer, err);
    frame_done(&frame);
    frame_done(&answer);
    return fine;
}

static bool do_mounts(struct mend *mend, struct im_err *err) {
    for (size_t i = 0; i < wire_count(mend->mounts); i++)
        if (!do_mount(mend, wire_at(mend->mounts, i), err))
            return false;
    return true;
}

/* What a program said, as much as there is room for. */
static void tell_output(struct mend *mend, struct frame *answer) {
    size_t most = mend->outputs < OUTPUTS_MAX ? OUTPUTS_MAX - mend->outputs : 0;
    size_t skipped = 0;

    if (most < OUTPUT_LATER)
        most = mend->outputs < 2 * OUTPUTS_MAX ? OUTPUT_LATER : 0;
    if (answer->data.len > most)
        skipped = answer->data.len - most;
    mend->outputs += answer->data.len - skipped;
    for (size_t i = skipped; i < answer->data.len; i++)
        if (answer->data.data[i] == '\0')
            answer->data.data[i] = ' ';
    wire_text(&mend->result, "output", answer->data.data + skipped);
}

static void tell_edit(struct mend *mend, struct frame *answer) {
    wire_object_begin(&mend->result, NULL);
    wire_int(&mend->result, "done", 1);
    if (frame_get(answer, "changed"))
        wire_int(&mend->result, "changed", frame_get_int(answer, "changed", 1));
    if (frame_get(answer, "bytes"))
        wire_int(&mend->result, "bytes", frame_get_int(answer, "bytes", 0));
    if (answer->data.len)
        tell_output(mend, answer);
    wire_object_end(&mend->result);
}

/* "write /etc/fstab", "run update-grub", "raw at 512". */
static void edit_name(const struct wire_value *edit, char out[160]) {
    const char *first = wire_as_text(wire_at(wire_get(edit, "argv"), 0), "");

    const char *what = wire_get_text(edit, "path", first);

    snprintf(out, 160, "%.16s%s%.128s", wire_get_text(edit, "op", "?"), what[0] ? " " : "", what);
}

static bool do_edit(struct mend *mend, const struct wire_value *edit, struct im_err *err) {
    struct frame frame = {0}, answer = {0};
    bool fine = edit_frame(edit, &frame, err) && order(mend, &frame, &answer, err);
    char name[160];

    edit_name(edit, name);
    if (fine)
        tell_edit(mend, &answer);
    else if (err->code == IM_BAD_IMAGE || err->code == IM_BAD_MESSAGE)
        im_within(err, "%s", name);
    frame_done(&frame);
    frame_done(&answer);
    return fine;
}

/* Bytes of the disk that come first are there before the file systems are mounted. */
static bool do_edits(struct mend *mend, struct im_err *err) {
    bool mounted = false;

    for (; mend->done < mend->total; mend->done++) {
        const struct wire_value *edit = wire_at(mend->edits, mend->done);

        if (!mounted && strcmp(wire_get_text(edit, "op", ""), "raw") != 0) {
            if (!do_mounts(mend, err))
                return false;
            mounted = true;
        }
        if (!do_edit(mend, edit, err))
            return false;
    }
    return mounted || do_mounts(mend, err);
}

static bool do_end(struct mend *mend, struct im_err *err) {
    struct frame frame = {0}, answer = {0};
    bool fine;

    frame_put(&frame, "op", "end");
    fine = order(mend, &frame, &answer, err);
    frame_done(&frame);
    frame_done(&answer);
    return fine;
}

/* The kernel's name is shown to people. */
static bool take_greeting(struct mend *mend, struct im_err *err) {
    struct frame hello = {0};
    bool fine = frame_receive(&mend->link, &hello, err);
    const char *kernel = fine ? frame_get(&hello, "kernel") : NULL;

    snprintf(mend->kernel, sizeof(mend->kernel), "%.79s", kernel && kernel[0] ? kernel : "?");
    frame_done(&hello);
    return fine;
}

/* It has powered off: its disk is closed. */
static bool see_it_off(struct mend *mend, struct im_err *err) {
    int64_t end_ms = im_mono_ms() + LEAVING_S * 1000;
    int status = 0;

    while (mend->console >= 0) {
        struct pollfd ready = {mend->console, POLLIN, 0};

        if (im_mono_ms() > end_ms)
            return im_fail(err, IM_TIMEOUT, "the appliance did not power off");
        if (poll(&ready, 1, LOOK_MS) > 0)
            hear_console(mend);
        report_progress("mend", mend->done, mend->total);
    }
    while (waitpid(mend->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return ended(mend, err);
    return true;
}

/* --- The verb --------------------------------------------------------------------------------- */

static bool check_request(const struct wire_value *root, struct mend *mend, struct im_err *err) {
    mend->mounts = wire_get(root, "mounts");
    mend->edits = wire_get(root, "edits");
    mend->total = wire_count(mend->edits);
    if (mend->total > EDITS_MAX || wire_count(mend->mounts) > MOUNTS_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "too many edits or mounts");
    if (mend->total == 0 && wire_count(mend->mounts) == 0)
        return im_fail(err, IM_BAD_MESSAGE, "the request has neither edits nor mounts");
    return true;
}

/* The appliance's half of the link is its alone once it runs; else its end would not be seen. */
static bool start(const struct request *request, struct mend *mend, struct im_err *err) {
    int pair[2], own;
    bool fine;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return im_fail_sys(err, errno, "no link to the appliance");
    own = fcntl(pair[0], F_DUPFD_CLOEXEC, OWN_LINK); /* out of the way of the appliance's */
    (void) close(pair[0]);
    fine = own >= 0 ? appliance_start(request, pair[1], &mend->pid, &mend->console, err)
                    : im_fail_sys(err, errno, "no link to the appliance");
    (void) close(pair[1]);
    if (!fine) {
        fd_auto(&own);
        return false;
    }
    (void) fcntl(own, F_SETFL, O_NONBLOCK);
    mend->link = (struct frame_link){
        .fd = own, .data_max = FRAME_OUTPUT_MAX, .ready = link_ready, .ended = ended, .arg = mend};
    return true;
}

static bool talk(struct mend *mend, struct im_err *err) {
    return take_greeting(mend, err) && do_edits(mend, err) && do_end(mend, err) &&
           see_it_off(mend, err) &&
           (fsync(WORKER_FD_SOURCE) == 0 || im_fail_sys(err, errno, "the disk's head"));
}

/* --- What was given back ---------------------------------------------------------------------- */

static bool has_trim(const struct mend *mend) {
    for (size_t i = 0; i < mend->total; i++)
        if (strcmp(wire_get_text(wire_at(mend->edits, i), "op", ""), "fstrim") == 0)
            return true;
    return false;
}

/* Data of the layers below within the range, in bytes. */
static bool count_data(struct qcow2_chain *below, uint64_t offset, uint64_t end, uint64_t *count,
                       struct im_err *err) {
    if (end > qcow2_chain_size(below))
        end = qcow2_chain_size(below);
    while (offset < end) {
        struct qcow2_chain_extent extent;
        uint64_t len;

        if (!qcow2_chain_map(below, offset, &extent, err))
            return false;
        len = extent.len < end - offset ? extent.len : end - offset;
        if (extent.kind == QCOW2_DATA || extent.kind == QCOW2_COMPRESSED)
            *count += len;
        offset += len;
    }
    return true;
}

/* The head is made of zeros where blocks were given back; what it hides counts. */
static bool count_freed(const struct request *request, uint64_t *ret_bytes, struct im_err *err) {
    const char *lower = strchr(request->layers, ' ');
    IM_AUTO(qcow2_chain_free_auto) struct qcow2_chain *chain = NULL;
    IM_AUTO(qcow2_chain_free_auto) struct qcow2_chain *below = NULL;
    struct qcow2_chain_extent extent;

    *ret_bytes = 0;
    if (lower == NULL)
        return true;
    if (!layers_open(request->layers, WORKER_FD_SOURCE, &chain, err) ||
        !layers_open(lower, WORKER_FD_SOURCE + 1, &below, err))
        return false;
    for (uint64_t at = 0; at < qcow2_chain_size(chain); at += extent.len)
        if (!qcow2_chain_map(chain, at, &extent, err) ||
            (extent.kind == QCOW2_ZERO && extent.layer == 0 &&
             !count_data(below, at, at + extent.len, ret_bytes, err)))
            return false;
    return true;
}

/* Seconds in tenths: wire has no fractions, people do. */
static void tell(struct mend *mend, uint64_t freed_bytes) {
    IM_AUTO(free_auto) char *seconds = NULL;
    int64_t ms = im_mono_ms() - mend->began_ms;

    seconds = im_printf("%lld.%lld", (long long) ms / 1000, (long long) ms % 1000 / 100);
    wire_array_end(&mend->result);
    wire_text(&mend->result, "kernel", mend->kernel);
    wire_raw(&mend->result, "seconds", seconds);
    if (has_trim(mend))
        wire_int(&mend->result, "freed_bytes", (int64_t) freed_bytes);
    wire_object_end(&mend->result);
    report_result(mend->result.text.data);
}

bool verb_mend(const struct request *request, struct im_err *err) {
    struct sandbox_policy policy = {.user = request->user, .scoped = true, .memory_bytes = MEMORY};
    struct mend mend = {.console = -1, .began_ms = im_mono_ms(), .link = {.fd = -1}};
    uint64_t freed_bytes = 0;
    bool fine;

    mend.limit_s = request->limit_s ? (int64_t) request->limit_s : request->kvm ? KVM_S : TCG_S;
    mend.end_ms = mend.began_ms + mend.limit_s * 1000;
    wire_object_begin(&mend.result, NULL);
    wire_array_begin(&mend.result, "edits");
    report_progress("start", 0, 0);
    sandbox_scope(); /* the appliance ends with us */
    fine = check_request(wire_root(request->doc), &mend, err) && start(request, &mend, err) &&
           fasten_belts(&policy, err) && talk(&mend, err) &&
           (!has_trim(&mend) || count_freed(request, &freed_bytes, err));
    if (fine)
        tell(&mend, freed_bytes);
    fd_auto(&mend.link.fd);
    fd_auto(&mend.console);
    im_str_done(&mend.said);
    im_str_done(&mend.result.text);
    return fine;
}
