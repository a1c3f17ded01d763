/* SPDX-License-Identifier: Apache-2.0 */
/* Unified diffs of small text files. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "guest/repair.h"

#define CONTEXT 3u
#define CELLS_MAX (4u << 20) /* beyond that, what differs is shown as one block */
#define NO_NEWLINE "\\ No newline at end of file\n"

struct lines {
    const char **at; /* each up to its newline, or to the end */
    size_t *len;     /* with its newline */
    size_t count;
};

static struct lines split(const char *text) {
    struct lines lines = {0};
    size_t capacity = 0, capacity_len = 0;

    for (const char *at = text; *at != '\0'; at += lines.len[lines.count++]) {
        const char *end = strchr(at, '\n');
        size_t count = lines.count;

        im_grow(&lines.at, lines.count, &capacity);
        im_grow(&lines.len, count, &capacity_len);
        lines.at[lines.count] = at;
        lines.len[lines.count] = end ? (size_t) (end - at) + 1 : strlen(at);
    }
    return lines;
}

static void lines_done(struct lines *lines) {
    free(lines->at);
    free(lines->len);
}

static bool same(const struct lines *a, size_t i, const struct lines *b, size_t j) {
    return a->len[i] == b->len[j] && memcmp(a->at[i], b->at[j], a->len[i]) == 0;
}

/* --- Which lines stay ------------------------------------------------------------------------- */

/* For each line of both, whether it is part of the longest sequence that they share. */
struct marks {
    bool *a, *b;
};

static void mark_middle(const struct lines *a, const struct lines *b, size_t begin, size_t rows,
                        size_t columns, struct marks *marks) {
    IM_AUTO(free_auto) uint32_t *longest = NULL; /* of what is left from a row and column on */
    size_t wide = columns + 1;

    if (rows == 0 || columns == 0 || (rows + 1) > CELLS_MAX / wide)
        return;
    longest = im_alloc((rows + 1) * wide * sizeof(*longest));
    for (size_t i = rows; i-- > 0;)
        for (size_t j = columns; j-- > 0;) {
            uint32_t below = longest[(i + 1) * wide + j], right = longest[i * wide + j + 1];

            longest[i * wide + j] = same(a, begin + i, b, begin + j)
                                        ? longest[(i + 1) * wide + j + 1] + 1
                                    : below > right ? below
                                                    : right;
        }
    for (size_t i = 0, j = 0; i < rows && j < columns;) {
        if (same(a, begin + i, b, begin + j))
            marks->a[begin + i++] = marks->b[begin + j++] = true;
        else if (longest[(i + 1) * wide + j] >= longest[i * wide + j + 1])
            i++;
        else
            j++;
    }
}

static void mark(const struct lines *a, const struct lines *b, struct marks *marks) {
    size_t begin = 0, end = 0;

    while (begin < a->count && begin < b->count && same(a, begin, b, begin)) {
        marks->a[begin] = marks->b[begin] = true;
        begin++;
    }
    while (end < a->count - begin && end < b->count - begin &&
           same(a, a->count - end - 1, b, b->count - end - 1)) {
        end++;
        marks->a[a->count - end] = marks->b[b->count - end] = true;
    }
    mark_middle(a, b, begin, a->count - begin - end, b->count - begin - end, marks);
}

/* --- Writing ---------------------------------------------------------------------------------- */

struct diff {
    struct lines a, b;
    struct marks marks;
    struct im_str out;
};

static void put(struct im_str *out, char sign, const struct lines *lines, size_t i) {
    im_str_add_char(out, sign);
    im_str_add_bytes(out, lines->at[i], lines->len[i]);
    if (lines->at[i][lines->len[i] - 1] != '\n')
        im_str_add(out, "\n" NO_NEWLINE);
}

static void put_range(struct im_str *out, char sign, size_t begin, size_t count) {
    im_str_addf(out, "%c%zu", sign, count ? begin + 1 : begin);
    if (count != 1)
        im_str_addf(out, ",%zu", count);
}

/* Is there a change among the next `within` lines? Both stand on a line that stays, or at an end.
 */
static bool change_near(const struct diff *diff, size_t i, size_t j, size_t within) {
    for (size_t n = 0; n <= within; n++) {
        bool a_ends = i + n >= diff->a.count, b_ends = j + n >= diff->b.count;

        if ((!a_ends && !diff->marks.a[i + n]) || (!b_ends && !diff->marks.b[j + n]))
            return true;
        if (a_ends || b_ends)
            return false;
    }
    return false;
}

/* One hunk from the first change on; *i and *j stand behind it afterwards. */
static void hunk(struct diff *diff, size_t *i, size_t *j) {
    size_t lead = *i < CONTEXT ? *i : CONTEXT, a = *i - lead, b = *j - lead;
    struct im_str body = {0};

    for (size_t n = 0; n < lead; n++)
        put(&body, ' ', &diff->a, a + n);
    while (change_near(diff, *i, *j, 2 * CONTEXT)) {
        while (*i < diff->a.count && !diff->marks.a[*i])
            put(&body, '-', &diff->a, (*i)++);
        while (*j < diff->b.count && !diff->marks.b[*j])
            put(&body, '+', &diff->b, (*j)++);
        while (*i < diff->a.count && *j < diff->b.count && diff->marks.a[*i] && diff->marks.b[*j] &&
               change_near(diff, *i, *j, 2 * CONTEXT)) {
            put(&body, ' ', &diff->a, (*i)++);
            (*j)++;
        }
    }
    for (size_t n = 0; n < CONTEXT && *i < diff->a.count; n++, (*j)++)
        put(&body, ' ', &diff->a, (*i)++);
    im_str_add(&diff->out, "@@ ");
    put_range(&diff->out, '-', a, *i - a);
    im_str_add_char(&diff->out, ' ');
    put_range(&diff->out, '+', b, *j - b);
    im_str_add(&diff->out, " @@\n");
    im_str_add_bytes(&diff->out, body.data ? body.data : "", body.len);
    im_str_done(&body);
}

static void write_hunks(struct diff *diff) {
    for (size_t i = 0, j = 0; i < diff->a.count || j < diff->b.count;) {
        if (i < diff->a.count && j < diff->b.count && diff->marks.a[i] && diff->marks.b[j])
            i++, j++;
        else
            hunk(diff, &i, &j);
    }
}

char *guest_diff(const char *path, const char *before, const char *after) {
    struct diff diff = {.a = split(before ? before : ""), .b = split(after)};

    if (before != NULL && strcmp(before, after) == 0) {
        lines_done(&diff.a);
        lines_done(&diff.b);
        return im_strdup("");
    }
    diff.marks.a = im_alloc(diff.a.count + 1);
    diff.marks.b = im_alloc(diff.b.count + 1);
    mark(&diff.a, &diff.b, &diff.marks);
    if (before != NULL)
        im_str_addf(&diff.out, "--- a%s\n+++ b%s\n", path, path);
    else
        im_str_addf(&diff.out, "--- /dev/null\n+++ b%s\n", path);
    write_hunks(&diff);
    lines_done(&diff.a);
    lines_done(&diff.b);
    free(diff.marks.a);
    free(diff.marks.b);
    return im_str_take(&diff.out);
}
