/* SPDX-License-Identifier: Apache-2.0 */
/* Numbered blocks on several disks, for tests of what a copy of them holds: runs in a guest, needs
 * nothing but a kernel.
 *
 *   blocks write FILE...  writes block 1, 2, 3 … to all the files in turn, each fsynced before the
 *                         next file gets its own: at any instant the files' last blocks differ by
 *                         one at most, those in front having the higher
 *   blocks check FILE...  prints "FILE=N" for each, the number of its last block, and "ok"; or,
 * when a block is missing below the last, what is wrong
 *
 * Block N is at the N-th place of a ring, full of the number N. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { RING = 1024, WORDS = 4096 / 8, FILES_MAX = 8 };

static uint64_t block[WORDS];

static off_t place_of(uint64_t number) { return (off_t) (number % RING) * (off_t) sizeof(block); }

static int write_all(int count, char *const names[]) {
    int fds[FILES_MAX];

    for (int i = 0; i < count; i++) {
        fds[i] = open(names[i], O_WRONLY | O_CREAT, 0644);
        if (fds[i] < 0) {
            perror(names[i]);
            return 1;
        }
    }
    for (uint64_t number = 1;; number++) {
        for (int word = 0; word < WORDS; word++)
            block[word] = number;
        for (int i = 0; i < count; i++)
            if (pwrite(fds[i], block, sizeof(block), place_of(number)) != sizeof(block) ||
                fsync(fds[i]) < 0) {
                perror(names[i]);
                return 1;
            }
    }
}

/* The number of the block at a place; 0: none was ever written there; -1: half a block. */
static int64_t read_block(int fd, uint64_t place) {
    memset(block, 0, sizeof(block));
    if (pread(fd, block, sizeof(block), place_of(place)) < 0)
        return -1;
    for (int word = 1; word < WORDS; word++)
        if (block[word] != block[0])
            return -1;
    return block[0] % RING == place || block[0] == 0 ? (int64_t) block[0] : -1;
}

/* The last block; the one after it may be half-written, as it was not fsynced yet. */
static int check(const char *name) {
    static int64_t numbers[RING];
    int fd = open(name, O_RDONLY);
    int64_t last = 0;

    if (fd < 0) {
        perror(name);
        return 1;
    }
    for (int place = 0; place < RING; place++) {
        numbers[place] = read_block(fd, (uint64_t) place);
        if (numbers[place] > last)
            last = numbers[place];
    }
    for (int64_t number = last; number > 0 && number > last - RING + 1; number--)
        if (numbers[number % RING] != number) {
            printf("%s: last block %lld, but block %lld is %lld\n", name, (long long) last,
                   (long long) number, (long long) numbers[number % RING]);
            return 1;
        }
    printf("%s=%lld\n", name, (long long) last);
    return close(fd);
}

int main(int argc, char *argv[]) {
    int bad = argc < 3 || argc > 2 + FILES_MAX;

    if (!bad && strcmp(argv[1], "write") == 0)
        return write_all(argc - 2, argv + 2);
    for (int i = 2; i < argc && !bad; i++)
        bad = check(argv[i]);
    puts(bad ? "bad" : "ok");
    return bad;
}
