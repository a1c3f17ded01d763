/* SPDX-License-Identifier: Apache-2.0 */
/* What came in, looked at in place: mapped piece by piece, so that hashing and writing it takes no
 * copy through our memory. Where a file system cannot map, pieces are read instead. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker-private.h"

#define MAPPED (32u << 20)
#define READ (1u << 20)

void view_done(struct view *view) {
    if (view->mapped)
        (void) munmap(view->bytes, view->len);
    else
        free(view->bytes);
    *view = (struct view){.fd = view->fd, .file_size = view->file_size};
}

static bool map(struct view *view, uint64_t begin) {
    uint64_t left = view->file_size - begin;
    size_t len = left < MAPPED ? (size_t) left : MAPPED;
    void *bytes = mmap(NULL, len, PROT_READ, MAP_SHARED, view->fd, (off_t) begin);

    if (bytes == MAP_FAILED)
        return false;
    view->bytes = bytes;
    view->len = len;
    view->mapped = true;
    (void) posix_fadvise(view->fd, (off_t) (begin + len), MAPPED, POSIX_FADV_WILLNEED);
    return true;
}

const uint8_t *view_at(struct view *view, uint64_t offset, uint64_t want, size_t *ret_len,
                       struct im_err *err) {
    uint64_t need = want < VIEW_LEAST ? want : VIEW_LEAST, end, left;
    uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);

    if (offset < view->begin || offset + need > view->begin + view->len) {
        view_done(view);
        view->begin = offset / page * page;
        if (!map(view, view->begin)) {
            left = view->file_size - view->begin;
            view->len = left < READ ? (size_t) left : READ;
            view->bytes = im_alloc(view->len);
            if (!im_pread_all(view->fd, view->bytes, view->len, view->begin, "what came in", err))
                return NULL;
        }
    }
    end = view->begin + view->len;
    *ret_len = (size_t) (want < end - offset ? want : end - offset);
    return view->bytes + (offset - view->begin);
}

/* --- A file that becomes shorter under our eyes ----------------------------------------------- */

static char last_words[256];
static size_t last_words_len;

static void on_bus_error(int sign) {
    (void) sign;
    (void) !write(STDOUT_FILENO, last_words, last_words_len);
    _exit(1);
}

void view_guard(void) {
    struct sigaction action = {.sa_handler = on_bus_error};
    struct worker_message message = {.kind = WORKER_ERROR};
    struct im_str line = {0};

    (void) im_fail(&message.err, IM_BAD_IMAGE, "what came in became shorter while it was read");
    wire_worker_write(&line, &message);
    if (line.len <= sizeof(last_words)) {
        memcpy(last_words, line.data, line.len);
        last_words_len = line.len;
    }
    im_str_done(&line);
    (void) sigaction(SIGBUS, &action, NULL);
}
