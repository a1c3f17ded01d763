/* SPDX-License-Identifier: Apache-2.0 */
/* The server over real sockets: transport, limits, a hundred malformed requests, uploads, the
 * console. */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/spawn.h"
#include "fake-cloud.h"
#include "test-client.h"
#include "websocket.h"
#include "harness/test.h"

static int port;
static char *answer;

static const char *talk(const char *bytes, size_t len) {
    free(answer);
    return answer = test_talk(port, bytes, len);
}

/* GET (or another method) with a signed query; `more` are further header lines. */
static const char *get(const char *method, const char *path, const char *query, const char *more) {
    IM_AUTO(free_auto) char *text = test_signed(method, path, query, NULL, 0);
    IM_AUTO(free_auto)
    char *request = im_printf("%s %s?%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", method,
                              path, text, more);

    return talk(request, strlen(request));
}

/* --- Transport ----------------------------------------------------------------------------------
 */

static void test_head(void) {
    get("GET", "/iaas", "action=DescribeZones", "");
    check(im_starts_with(answer, "HTTP/1.1 200 "), "HTTP 200");
    check(strstr(answer, "\r\nContent-Type: application/json\r\n") != NULL,
          "the type is exactly application/json");
    check(strstr(answer, "\r\n\r\n{\"action\":\"DescribeZonesResponse\",\"ret_code\":0,") != NULL,
          "compact JSON");
    get("GET", "/iaas/", "action=Nonsense", "");
    check(im_starts_with(answer, "HTTP/1.1 200 ") && test_ret_code(answer) == 1101,
          "errors are HTTP 200 too");
    check(strstr(answer, "{\"message\":\"InvalidRequestMethod, action [Nonsense]") != NULL,
          "and say which class and what");
}

static void test_post(void) {
    IM_AUTO(free_auto) char *text = test_signed("POST", "/iaas/", "action=DescribeZones", NULL, 0);
    size_t half = strlen(text) / 2;
    IM_AUTO(free_auto)
    char *whole = im_printf(
        "POST /iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
        strlen(text), text);
    IM_AUTO(free_auto)
    char *chunked = im_printf(
        "POST /iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        "%zx\r\n%.*s\r\n%zx\r\n%s\r\n0\r\n\r\n",
        half, (int) half, text, strlen(text) - half, text + half);

    talk(whole, strlen(whole));
    check(test_ret_code(answer) == 0, "POST without Content-Type (%s)", test_message(answer));
    talk(chunked, strlen(chunked));
    check(test_ret_code(answer) == 0, "POST in chunks (%s)", test_message(answer));
}

static void test_keep_alive(void) {
    IM_AUTO(free_auto) char *text = test_signed("GET", "/iaas/", "action=DescribeZones", NULL, 0);
    IM_AUTO(free_auto)
    char *twice =
        im_printf("GET /iaas/?%s HTTP/1.1\r\nHost: x\r\n\r\nGET /iaas/?%s HTTP/1.1\r\nHost: x\r\n"
                  "Connection: close\r\n\r\n",
                  text, text);
    const char *first, *second;

    talk(twice, strlen(twice));
    first = strstr(answer, "HTTP/1.1 200");
    second = first == NULL ? NULL : strstr(first + 1, "HTTP/1.1 200");
    check(second != NULL, "two requests on one connection");
}

static void test_pages(void) {
    get("GET", "/healthz", "", "");
    check(im_starts_with(answer, "HTTP/1.1 200"), "/healthz");
    get("GET", "/readyz", "", "");
    check(im_starts_with(answer, "HTTP/1.1 200"), "/readyz");
    get("GET", "/metrics", "", "");
    check(strstr(answer, "imprint_requests_total{action=\"DescribeZones\",code=\"0\"") != NULL &&
              strstr(answer, "imprint_request_seconds_bucket{le=\"+Inf\"}") != NULL,
          "/metrics counts by action and code");
    get("GET", "/", "", "");
    check(strstr(answer, "<title>Imprint") != NULL, "the front page");
    get("GET", "/etc/passwd", "", "");
    check(im_starts_with(answer, "HTTP/1.1 404"), "nothing else is there");
    get("DELETE", "/healthz", "", "");
    check(im_starts_with(answer, "HTTP/1.1 405"), "other methods are refused");
}

static void test_slow(void) {
    int fd = test_connect(port);
    int64_t start = im_mono_ms();
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    char byte;

    (void) !write(fd, "GET /iaas/?a", 12);
    check(poll(&wait, 1, 10000) == 1 && recv(fd, &byte, 1, 0) <= 0 && im_mono_ms() - start > 1000,
          "a client that stops talking is let go");
    close(fd);
}

/* --- Malformed requests -------------------------------------------------------------------------
 */

/* Signed queries, what they must be answered with, and a word of the message. */
static const struct {
    const char *query;
    int64_t code;
    const char *word;
} bad_queries[] = {
    {"", 1100, "[action]"},
    {"action=", 1100, "[action]"},
    {"action", 1100, "[action]"},
    {"action=%00", 1100, "[action]"},
    {"action=DescribeImages%00", 1100, "zero"},
    {"action=Describe%zz", 1100, "escape"},
    {"action=DescribeImages&a=%", 1100, "[a]"},
    {"action=DescribeImages&a=%4", 1100, "[a]"},
    {"action=DescribeImages&a=%4g", 1100, "[a]"},
    {"action=DescribeImages&a=%g4", 1100, "[a]"},
    {"action=DescribeImages&a=%ff", 1100, "UTF-8"},
    {"action=DescribeImages&a=%c0%af", 1100, "UTF-8"},
    {"action=DescribeImages&a=%ed%a0%80", 1100, "UTF-8"},
    {"action=DescribeImages&a=%f5%80%80%80", 1100, "UTF-8"},
    {"action=DescribeImages&a=%e6%b5", 1100, "UTF-8"},
    {"action=DescribeImages&%00=1", 1100, "name"},
    {"action=DescribeImages&%ff=1", 1100, "name"},
    {"action=DescribeImages&%=1", 1100, "escape"},
    {"action=DescribeImages&=1", 1100, "name"},
    {"action=DescribeImages&=", 1100, "name"},
    {"action=DescribeImages&limit=1&limit=1", 1100, "[limit]"},
    {"action=DescribeImages&action=DescribeImages", 1100, "[action]"},
    {"action=DescribeImages&images.1=a&images.1=b", 1100, "[images.1]"},
    {"action=DescribeImages&l%69mit=1&limit=2", 1100, "[limit]"},
    {"action=DescribeImages&limit=-1", 1100, "[limit]"},
    {"action=DescribeImages&limit=1.5", 1100, "[limit]"},
    {"action=DescribeImages&limit=0x10", 1100, "[limit]"},
    {"action=DescribeImages&limit=1e9", 1100, "[limit]"},
    {"action=DescribeImages&limit=+1", 1100, "[limit]"},
    {"action=DescribeImages&limit=%201", 1100, "[limit]"},
    {"action=DescribeImages&limit=99999999999999999999", 1100, "[limit]"},
    {"action=DescribeImages&limit=-99999999999999999999", 1100, "[limit]"},
    {"action=DescribeImages&limit=abc", 1100, "[limit]"},
    {"action=DescribeImages&offset=-1", 1100, "[offset]"},
    {"action=DescribeImages&offset=9223372036854775808", 1100, "[offset]"},
    {"action=DescribeImages&offset=4611686018427387904", 1100, "[offset]"},
    {"action=DescribeImages&verbose=-1", 1100, "[verbose]"},
    {"action=DescribeImages&verbose=yes", 1100, "[verbose]"},
    {"action=DescribeImages&reverse=2", 1100, "[reverse]"},
    {"action=DescribeImages&sort_key=x", 1100, "[sort_key]"},
    {"action=DescribeImages&sort_key=image_id%20desc", 1100, "[sort_key]"},
    {"action=DescribeImages&sort_key=layer_id", 1100, "[sort_key]"},
    {"action=DescribeInstances&sort_key=passwd_hash", 1100, "[sort_key]"},
    {"action=DescribeAccessKeys&sort_key=secret_sealed", 1100, "[sort_key]"},
    {"action=Nonsense", 1101, "Nonsense"},
    {"action=describeimages", 1101, "describeimages"},
    {"action=DescribeImages%20", 1101, "not known"},
    {"action=../../etc/passwd", 1101, "not known"},
    {"action=DescribeRouters", 1101, "not known"},
    {"action=%F0%9F%98%80", 1101, "not known"},
    {"action=ImportImage&format=exe", 1100, "[format]"},
    {"action=ImportImage&platform=beos", 1100, "[platform]"},
    {"action=ImportImage&force=maybe", 1100, "[force]"},
    {"action=ImportImage&firmware=", 0, ""},
    {"action=ImportImage&digest="
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     1100, "[digest]"},
    {"action=CaptureInstance", 1100, "[instance]"},
    {"action=CaptureInstance&instance=", 1100, "[instance]"},
    {"action=CloneImages&image=i&count=-5", 1100, "[count]"},
    {"action=CloneImages&image=i&count=1000000", 1100, "[count]"},
    {"action=CloneImages&count=1", 1100, "[image]"},
    {"action=DeleteImages", 1100, "[images.n]"},
    {"action=DeleteImages&images.-1=a", 1100, "[images.n]"},
    {"action=DeleteImages&images.=a", 1100, "[images.n]"},
    {"action=DeleteImages&images.1.2=a", 1100, "[images.n]"},
    {"action=DeleteImages&images.99999999999999999999=a", 1100, "[images.n]"},
    {"action=DeleteImages&images[]=a", 1100, "[images.n]"},
    {"action=DeleteImages&images.1=a&direct_cease=no", 1100, "[direct_cease]"},
    {"action=ModifyImageAttributes", 1100, "[image]"},
    {"action=RunInstances", 1100, "[image_id]"},
    {"action=RunInstances&image_id=i&count=-1", 1100, "[count]"},
    {"action=RunInstances&image_id=i&count=1001", 1100, "[count]"},
    {"action=RunInstances&image_id=i&cpu=-1", 1100, "[cpu]"},
    {"action=RunInstances&image_id=i&cpu=4097", 1100, "[cpu]"},
    {"action=RunInstances&image_id=i&memory=-1", 1100, "[memory]"},
    {"action=RunInstances&image_id=i&memory=18446744073709551616", 1100, "[memory]"},
    {"action=RunInstances&image_id=i&os_disk_size=99999999999", 1100, "[os_disk_size]"},
    {"action=RunInstances&image_id=i&login_mode=telnet", 1100, "[login_mode]"},
    {"action=RunInstances&image_id=i&instance_class=-1", 1100, "[instance_class]"},
    {"action=RunInstances&image_id=i&nic_mqueue=2", 1100, "[nic_mqueue]"},
    {"action=RunInstances&image_id=i&need_userdata=3", 1100, "[need_userdata]"},
    {"action=RunInstances&image_id=i&userdata_type=zip", 1100, "[userdata_type]"},
    {"action=RunInstances&image_id=i&start=later", 1100, "[start]"},
    {"action=StartInstances", 1100, "[instances.n]"},
    {"action=StopInstances&instances.1=i&force=2", 1100, "[force]"},
    {"action=RestartInstances&instances.1=", 1100, "[instances.n]"},
    {"action=TerminateInstances&instances.1=i&direct_cease=-1", 1100, "[direct_cease]"},
    {"action=CeaseInstances", 1100, "[instances.n]"},
    {"action=ResizeInstances&cpu=1", 1100, "[instances.n]"},
    {"action=ResizeInstances&instances.1=i&cpu=x", 1100, "[cpu]"},
    {"action=ResetInstances&instances.1=i&login_mode=none", 1100, "[login_mode]"},
    {"action=ModifyInstanceAttributes", 1100, "[instance]"},
    {"action=CloneInstances", 1100, "[instances.n]"},
    {"action=CreateKeyPair&mode=robot", 1100, "[mode]"},
    {"action=CreateKeyPair&mode=user", 1100, "[public_key]"},
    {"action=AttachKeyPairs&keypairs.1=k", 1100, "[instances.n]"},
    {"action=DetachKeyPairs&instances.1=i", 1100, "[keypairs.n]"},
    {"action=DeleteKeyPairs", 1100, "[keypairs.n]"},
    {"action=ModifyKeyPairAttributes", 1100, "[keypair]"},
    {"action=CancelJobs", 1100, "[jobs.n]"},
    {"action=DeleteAccessKeys", 1100, "[access_keys.n]"},
    {"action=GetInstanceSSH", 1100, "[instance]"},
    {"action=CreateUser", 1100, "[user_name]"},
    {"action=CreateUser&user_name=x&role=god", 1100, "[role]"},
    {"action=DescribeVxnets&vxnet_type=9", 1100, "[vxnet_type]"},
    {"zone=pek1&action=DescribeImages", 1100, "[zone]"},
};

static void test_bad_queries(void) {
    for (size_t i = 0; i < sizeof(bad_queries) / sizeof(bad_queries[0]); i++) {
        get("GET", "/iaas/", bad_queries[i].query, "");
        check(im_starts_with(answer, "HTTP/1.1 200 ") &&
                  test_ret_code(answer) == bad_queries[i].code &&
                  strstr(test_message(answer), bad_queries[i].word) != NULL,
              "malformed %zu: %s", i, test_message(answer));
    }
}

/* Requests that are broken below the query: the answer may be HTTP's own, but there is one, or the
 * connection ends, and the server lives. */
static void test_bad_transport(void) {
    static const char *const raw[] = {
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET /iaas/\r\n\r\n",
        "GET /iaas/ HTTP/9.9\r\nHost: x\r\nConnection: close\r\n\r\n",
        "BREW /iaas/?action=DescribeZones HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "PUT /iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "POST /iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: -1\r\n\r\n",
        "POST /iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: "
        "99999999999999999999999\r\n\r\n",
        "POST /iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: x\r\n\r\n",
        "POST /iaas/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /iaas/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
        "chunked\r\n\r\nffffffffffffffffff\r\n",
        "POST /iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\n%%%%%",
        "POST /iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "GET /iaas/?a=\x01\x02\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET http://other/iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /data/images/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /data/images/../x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /instances//console HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /instances/a/b/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    };

    for (size_t i = 0; i < sizeof(raw) / sizeof(raw[0]); i++) {
        talk(raw[i], strlen(raw[i]));
        check(answer[0] == '\0' || im_starts_with(answer, "HTTP/1.") ||
                  im_starts_with(answer, "<html>") || answer[0] == '{',
              "broken %zu: %.40s", i, answer[0] ? "answered" : "closed");
    }
    get("GET", "/iaas/", "action=DescribeZones", "");
    check(test_ret_code(answer) == 0, "and the server lives");
}

static void repeat(struct im_str *out, const char *format, int count) {
    for (int i = 1; i <= count; i++) {
        char item[64];

        snprintf(item, sizeof(item), format, i);
        im_str_add(out, item);
    }
}

static void post_unsigned(struct im_str *body) {
    struct im_str request = {0};

    im_str_addf(&request,
                "POST /iaas/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                "Content-Length: %zu\r\n\r\n",
                body->len);
    im_str_add_bytes(&request, body->data, body->len);
    talk(request.data, request.len);
    im_str_done(&request);
    im_str_done(body);
}

static void test_large(void) {
    struct im_str text = {0};

    im_str_add(&text, "action=DeleteImages");
    repeat(&text, "&images.%d=img-00000001", 10000);
    post_unsigned(&text);
    check(test_ret_code(answer) == 1100 && strstr(test_message(answer), "4096") != NULL,
          "10,000 items: %s", test_message(answer));

    im_str_add(&text, "action=DeleteImages");
    repeat(&text, "&images.%d=img-00000001", 2000);
    {
        IM_AUTO(free_auto) char *query = im_str_take(&text);

        text.data = test_signed("POST", "/iaas/", query, NULL, 0);
        text.len = strlen(text.data);
    }
    post_unsigned(&text);
    check(test_ret_code(answer) == 1100 && strstr(test_message(answer), "2000") != NULL,
          "2,000 items: %s", test_message(answer));

    im_str_add(&text, "action=");
    memset(im_str_reserve(&text, 10 << 20), 'a', 10 << 20);
    text.len += 10 << 20;
    post_unsigned(&text);
    check(test_ret_code(answer) == 1100 && strstr(test_message(answer), "longer") != NULL,
          "10 MB of body: %s", test_message(answer));

    im_str_add(&text, "GET /iaas/?action=");
    memset(im_str_reserve(&text, 10 << 20), 'a', 10 << 20);
    text.len += 10 << 20;
    im_str_add(&text, " HTTP/1.1\r\nHost: x\r\n\r\n");
    talk(text.data, text.len);
    check(answer[0] == '\0' || strstr(answer, "414") || strstr(answer, "413") ||
              strstr(answer, "431"),
          "10 MB of query is cut off");
    im_str_done(&text);

    im_str_add(&text, "GET /iaas/ HTTP/1.1\r\nHost: x\r\n");
    repeat(&text, "X-%d: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 5000);
    im_str_add(&text, "\r\n");
    talk(text.data, text.len);
    check(answer[0] == '\0' || strstr(answer, " 4") != NULL, "5,000 header lines are cut off");
    im_str_done(&text);

    im_str_add(&text, "action=RunInstances&image_id=x&userdata_value=");
    memset(im_str_reserve(&text, 3 << 20), 'A', 3 << 20);
    text.len += 3 << 20;
    text.data[text.len] = '\0';
    {
        IM_AUTO(free_auto) char *query = im_str_take(&text);

        text.data = test_signed("POST", "/iaas/", query, NULL, 0);
        text.len = strlen(text.data);
    }
    post_unsigned(&text);
    check(test_ret_code(answer) == 0, "3 MB of user data are fine (%s)", test_message(answer));
}

/* --- Uploads ------------------------------------------------------------------------------------
 */

static const char *put(const char *id, const char *range, const char *body) {
    IM_AUTO(free_auto) char *path = im_printf("/data/images/%s", id);
    IM_AUTO(free_auto) char *query = test_signed("PUT", path, "", NULL, 0);
    IM_AUTO(free_auto)
    char *request = im_printf(
        "PUT %s?%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s%sContent-Length: %zu\r\n\r\n%s",
        path, query, range ? "Content-Range: bytes " : "", range ? range : "", range ? "\r\n" : "",
        strlen(body), body);

    return talk(request, strlen(request));
}

static void test_upload(void) {
    struct im_err failure = {0};
    IM_AUTO(free_auto) char *got = NULL;
    size_t len = 0;

    snprintf(fake.upload_path, sizeof(fake.upload_path), "%s/upload", test_folder());
    fake.upload_waits = true;
    put("img-0a1b2c3d", "*/10", "");
    check(test_ret_code(answer) == 0 && strstr(answer, "\"received_bytes\":0"),
          "asked: nothing yet");
    put("img-0a1b2c3d", "0-3/10", "abcd");
    check(test_ret_code(answer) == 0 && strstr(answer, "\"received_bytes\":4") &&
              strstr(answer, "job_id") == NULL,
          "the first piece (%s)", test_message(answer));
    put("img-0a1b2c3d", "6-9/10", "wxyz");
    check(test_ret_code(answer) == 1400 && strstr(answer, "\"received_bytes\":4"),
          "a gap is answered with the right offset (%s)", test_message(answer));
    put("img-0a1b2c3d", "4-5/10", "efgh");
    check(test_ret_code(answer) == 1100 && strstr(answer, "\"received_bytes\":4"),
          "never more than was announced (%s)", test_message(answer));
    put("img-0a1b2c3d", "4-9/10", "ef");
    check(test_ret_code(answer) == 1100 && strstr(answer, "\"received_bytes\":6"),
          "less is kept, and said (%s)", test_message(answer));
    get("GET", "/data/images/img-0a1b2c3d", "upload=1", "");
    check(strstr(answer, "\"received_bytes\":6") && strstr(answer, "Upload-Offset: 6"),
          "GET tells the offset");
    put("img-0a1b2c3d", "6-9/10", "ghij");
    check(test_ret_code(answer) == 0 && strstr(answer, "\"job_id\":\"j-1v211t6p04l\"") &&
              fake.numbers[0] == 10,
          "the last piece makes the job (%s)", test_message(answer));
    put("img-0a1b2c3d", "*/10", "");
    check(test_ret_code(answer) == 0 && strstr(answer, "\"job_id\":\"j-1v211t6p04l\""),
          "whoever missed it gets it by asking");
    check(im_read_file(fake.upload_path, 100, &got, &len, &failure) && len == 10 &&
              strcmp(got, "abcdefghij") == 0,
          "the file has what was sent");
}

/* --- Downloads ----------------------------------------------------------------------------------
 */

#define TAG "\"0000000000000000000000000000000000000000000000000000000000000007\""

/* `headers` are whole lines. */
static const char *fetch(const char *method, const char *id, const char *headers) {
    IM_AUTO(free_auto) char *path = im_printf("/data/exports/%s", id);
    IM_AUTO(free_auto) char *query = test_signed("GET", path, "", NULL, 0);
    IM_AUTO(free_auto)
    char *request = im_printf("%s %s?%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", method,
                              path, query, headers);

    return talk(request, strlen(request));
}

static bool got(const char *status, const char *body) {
    const char *end = strstr(answer, "\r\n\r\n");

    return strstr(answer, status) != NULL && end != NULL && strcmp(end + 4, body) == 0;
}

static void test_download(void) {
    static const char *const nowhere[] = {
        "/data/boot-tests/bt-1",         "/data/boot-tests/bt-1/",
        "/data/boot-tests/bt-1/serial/", "/data/boot-tests/bt-1/secret.key",
        "/data/boot-tests/../screen",    "/data/exports/exp-0a1b2c3d/serial"};
    static const struct {
        const char *headers, *status, *body, *range;
    } rows[] = {
        {"", "HTTP/1.1 200", "abcdefghij", NULL},
        {"Range: bytes=0-\r\n", "HTTP/1.1 206", "abcdefghij", "Content-Range: bytes 0-9/10"},
        {"Range: bytes=4-\r\n", "HTTP/1.1 206", "efghij", "Content-Range: bytes 4-9/10"},
        {"Range: bytes=4-5\r\n", "HTTP/1.1 206", "ef", "Content-Range: bytes 4-5/10"},
        {"Range: bytes=4-99\r\n", "HTTP/1.1 206", "efghij", "Content-Range: bytes 4-9/10"},
        {"Range: bytes=-3\r\n", "HTTP/1.1 206", "hij", "Content-Range: bytes 7-9/10"},
        {"Range: bytes=-99\r\n", "HTTP/1.1 206", "abcdefghij", "Content-Range: bytes 0-9/10"},
        {"Range: bytes=10-\r\n", "HTTP/1.1 416", "", "Content-Range: bytes */10"},
        {"Range: bytes=-0\r\n", "HTTP/1.1 416", "", "Content-Range: bytes */10"},
        {"Range: bytes=5-4\r\n", "HTTP/1.1 200", "abcdefghij", NULL},
        {"Range: bytes=1-2,4-5\r\n", "HTTP/1.1 200", "abcdefghij", NULL},
        {"Range: bytes=x-\r\n", "HTTP/1.1 200", "abcdefghij", NULL},
        {"Range: bytes=99999999999999999999-\r\n", "HTTP/1.1 200", "abcdefghij", NULL},
        {"Range: bytes=+1-2\r\n", "HTTP/1.1 200", "abcdefghij", NULL},
        {"Range: lines=1-2\r\n", "HTTP/1.1 200", "abcdefghij", NULL},
        {"Range: bytes=4-\r\nIf-Range: " TAG "\r\n", "HTTP/1.1 206", "efghij",
         "Content-Range: bytes 4-9/10"},
        {"Range: bytes=4-\r\nIf-Range: \"other\"\r\n", "HTTP/1.1 200", "abcdefghij", NULL},
        {"If-None-Match: " TAG "\r\n", "HTTP/1.1 304", "", NULL},
        {"If-None-Match: \"other\"\r\n", "HTTP/1.1 200", "abcdefghij", NULL},
    };
    struct im_err failure = {0};

    snprintf(fake.upload_path, sizeof(fake.upload_path), "%s/export", test_folder());
    check(im_write_file(fake.upload_path, "abcdefghij", 10, 0600, &failure), "a file to fetch");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fetch("GET", "exp-0a1b2c3d", rows[i].headers);
        check(got(rows[i].status, rows[i].body) && strstr(answer, "ETag: " TAG) &&
                  (rows[i].range == NULL ? strstr(answer, "Content-Range") == NULL
                                         : strstr(answer, rows[i].range) != NULL),
              "row %zu of ranges (%.*s)", i, (int) strcspn(answer, "\r"), answer);
    }
    fetch("HEAD", "exp-0a1b2c3d", "");
    check(got("HTTP/1.1 200", "") && strstr(answer, "Content-Length: 10") &&
              strstr(answer, "Accept-Ranges: bytes") &&
              strstr(answer, "Repr-Digest: sha-256=:AAAA") &&
              strstr(answer, "filename=\"img-0a1b2c3d.qcow2\""),
          "HEAD under GET's signature tells length, digest and name");
    fetch("GET", "exp-none", "");
    check(strstr(answer, "HTTP/1.1 404") && test_ret_code(answer) == 2100, "an unknown one is 404");
    fetch("GET", "a/../../b", "");
    check(strstr(answer, "HTTP/1.1 404") != NULL, "so is what is no id");
    fetch("PUT", "exp-0a1b2c3d", "Content-Length: 0\r\n");
    check(strstr(answer, "HTTP/1.1 405") != NULL, "nothing is put there");
    get("GET", "/data/exports/exp-0a1b2c3d", "x=1", "");
    check(strstr(answer, "HTTP/1.1 200") != NULL, "other parameters are signed, too");
    get("GET", "/data/boot-tests/bt-1/screen", "", "");
    check(got("HTTP/1.1 200", "abcdefghij") && strstr(answer, "Content-Type: image/png") &&
              strstr(answer, "ETag: \"bt-1.png\"") && im_str_equal(fake.texts[0], "screen"),
          "a boot test's picture comes the same way");
    get("GET", "/data/boot-tests/bt-1/serial", "", "");
    check(strstr(answer, "HTTP/1.1 200") && im_str_equal(fake.texts[0], "serial"),
          "so does what its machine said");
    for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
        get("GET", nowhere[i], "", "");
        check(strstr(answer, "HTTP/1.1 404") != NULL, "there is no %s", nowhere[i]);
    }
    {
        static const char bare[] = "GET /data/exports/exp-0a1b2c3d HTTP/1.1\r\nHost: x\r\n"
                                   "Connection: close\r\n\r\n";

        talk(bare, strlen(bare));
        check(strstr(answer, "HTTP/1.1 400") && strstr(answer, "abcdefghij") == NULL,
              "without a signature there is nothing");
    }
}

static void test_bad_uploads(void) {
    static const char *const ranges[] = {
        "x",   "0-3",  "3-0/10", "0-10/10",  "-1-3/10", "0-3/0",
        "*/0", "*/-5", "0-3/*",  "0-3/10 x", "a-b/c",   "0-3/18446744073709551616"};

    fake.upload_waits = true;
    unlink(fake.upload_path);
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        put("img-0a1b2c3d", ranges[i], "abcd");
        check(test_ret_code(answer) == 1100, "range [%s]: %s", ranges[i], test_message(answer));
    }
    put("img-0a1b2c3d", "0-3/99999999999", "abcd");
    check(test_ret_code(answer) == 1100 && strstr(test_message(answer), "limit"), "too large");
    put("img-none", "0-3/4", "abcd");
    check(test_ret_code(answer) == 2100, "an image that is not there");
    put("img-0a1b2c3d", NULL, "");
    check(test_ret_code(answer) == 1100, "nothing announced");
    put("img-0a1b2c3d", NULL, "whole");
    check(test_ret_code(answer) == 0 && strstr(answer, "job_id"),
          "a whole body needs no range (%s)", test_message(answer));
    {
        const char *plain = "PUT /data/images/img-0a1b2c3d HTTP/1.1\r\nHost: x\r\n"
                            "Connection: close\r\nContent-Length: 1\r\n\r\na";

        talk(plain, strlen(plain));
        check(test_ret_code(answer) == 1100, "unsigned: %s", test_message(answer));
    }
}

/* Two at once: the second is told so while the first goes on. */
static void test_racing_uploads(void) {
    IM_AUTO(free_auto) char *query = test_signed("PUT", "/data/images/img-0a1b2c3d", "", NULL, 0);
    IM_AUTO(free_auto)
    char *begin =
        im_printf("PUT /data/images/img-0a1b2c3d?%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                  "Content-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\nab",
                  query);
    char bytes[1024];
    ssize_t got;
    int fd;

    fake.upload_waits = true;
    unlink(fake.upload_path);
    fd = test_connect(port);
    (void) !write(fd, begin, strlen(begin));
    im_sleep_ms(300);
    put("img-0a1b2c3d", "0-3/4", "abcd");
    check(test_ret_code(answer) == 1400 && strstr(test_message(answer), "please try later"),
          "the second of two writers (%s)", test_message(answer));
    (void) !write(fd, "cd", 2);
    got = recv(fd, bytes, sizeof(bytes) - 1, MSG_WAITALL);
    bytes[got > 0 ? got : 0] = '\0';
    check(test_ret_code(bytes) == 0, "the first one wins");
    close(fd);
}

/* --- The console --------------------------------------------------------------------------------
 */

static size_t receive(int fd, char *bytes, size_t want) {
    size_t have = 0;

    while (have < want) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t got = poll(&wait, 1, 3000) == 1 ? recv(fd, bytes + have, want - have, 0) : 0;

        if (got <= 0)
            break;
        have += (size_t) got;
    }
    bytes[have] = '\0';
    return have;
}

static int open_console(void) {
    IM_AUTO(free_auto)
    char *query = test_signed("GET", "/instances/i-4kq0z8pw/console", "", NULL, 0);
    IM_AUTO(free_auto)
    char *request = im_printf(
        "GET /instances/i-4kq0z8pw/console?%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        query);
    struct im_str head = {0};
    int fd = test_connect(port);
    char byte;

    (void) !write(fd, request, strlen(request));
    while (head.len < 4 || strcmp(head.data + head.len - 4, "\r\n\r\n") != 0) {
        if (recv(fd, &byte, 1, 0) != 1)
            break;
        im_str_add_char(&head, byte);
    }
    check(strstr(head.data ? head.data : "", "HTTP/1.1 101") != NULL &&
              strstr(head.data, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != NULL,
          "the WebSocket opens");
    im_str_done(&head);
    return fd;
}

static void test_console(void) {
    int fd = open_console();
    char bytes[256];

    (void) !write(fake.console_peer, "login: ", 7);
    check(receive(fd, bytes, 9) == 9 && memcmp(bytes, "\x82\x07login: ", 9) == 0,
          "what the machine says comes as a frame");
    (void) !write(fd, "\x82\x85\x01\x02\x03\x04\x73\x6d\x6c\x70\x0b", 11); /* "root\n", masked */
    check(receive(fake.console_peer, bytes, 5) == 5 && memcmp(bytes, "root\n", 5) == 0,
          "what the client types reaches the machine");
    (void) !write(fd, "\x89\x82\x00\x00\x00\x00hi", 8);
    check(receive(fd, bytes, 4) == 4 && memcmp(bytes, "\x8a\x02hi", 4) == 0, "a ping is answered");
    close(fake.console_peer);
    check(receive(fd, bytes, 4) == 4 && (unsigned char) bytes[0] == 0x88,
          "when the machine is gone the console closes");
    close(fd);
    get("GET", "/instances/i-4kq0z8pw/console.log", "", "");
    check(strstr(answer, "\r\n\r\nlogin: ") != NULL, "the log is there");
    get("GET", "/instances/i-4kq0z8pw/console", "", "");
    check(test_ret_code(answer) == 1100, "without upgrade: %s", test_message(answer));
    get("GET", "/instances/i-none/console", "",
        "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    check(test_ret_code(answer) == 2100, "no such instance: %s", test_message(answer));
}

struct gathered {
    struct im_str data;
    unsigned controls;
};

static bool gather(void *arg, unsigned opcode, const char *bytes, size_t len) {
    struct gathered *gathered = arg;

    if (opcode >= 8)
        gathered->controls++;
    else if (len > 0)
        im_str_add_bytes(&gathered->data, bytes, len);
    return opcode != WEBSOCKET_CLOSE;
}

static void test_frames(void) {
    static const char good[] = "\x02\x83\x00\x00\x00\x00"
                               "abc"
                               "\x89\x80\x01\x01\x01\x01"
                               "\x80\xfe\x00\x02\x00\x00\x00\x00"
                               "de";
    static const char *const bad[] = {("\x82\x03"
                                       "abc"),
                                      "\xc2\x80",
                                      "\x83\x80\x00\x00\x00\x00",
                                      "\x09\x80\x00\x00\x00\x00",
                                      "\x8b\x80\x00\x00\x00\x00",
                                      "\x89\xfe\x01\x00\x00\x00\x00\x00"};
    static const size_t bad_len[] = {5, 2, 6, 6, 6, 8};

    for (size_t step = 1; step < sizeof(good); step++) {
        struct websocket_reader reader = {0};
        struct gathered gathered = {0};
        bool fine = true;

        for (size_t at = 0; at < sizeof(good) - 1; at += step)
            fine =
                fine && websocket_read(&reader, good + at,
                                       sizeof(good) - 1 - at < step ? sizeof(good) - 1 - at : step,
                                       gather, &gathered);
        check(fine && gathered.controls == 1 && gathered.data.len == 5 &&
                  memcmp(gathered.data.data, "abcde", 5) == 0,
              "frames in pieces of %zu", step);
        im_str_done(&gathered.data);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct websocket_reader reader = {0};
        struct gathered gathered = {0};

        check(!websocket_read(&reader, bad[i], bad_len[i], gather, &gathered),
              "broken frame %zu is refused", i);
        im_str_done(&gathered.data);
    }
}

/* --- TLS ----------------------------------------------------------------------------------------
 */

static void test_tls(void) {
    IM_AUTO(free_auto) char *key = im_printf("%s/key.pem", test_folder());
    IM_AUTO(free_auto) char *certificate = im_printf("%s/cert.pem", test_folder());
    const char *make[] = {"openssl", "req",   "-x509", "-newkey",   "rsa:2048",
                          "-nodes",  "-subj", "/CN=x", "-days",     "1",
                          "-keyout", key,     "-out",  certificate, NULL};
    struct http_config config = test_config();
    struct im_err failure = {0};
    IM_AUTO(free_auto) char *url = NULL, *got = NULL;
    struct http *http;

    config.tls_certificate = config.tls_key = "/nonexistent.pem";
    check_err(http_open(&config, fake_cloud(), &err) != NULL, IM_INTERNAL,
              "a certificate that is not there");
    if (!im_run(make, NULL, 30000, &got, &failure)) {
        test_note("openssl is not here: %s", failure.text);
        return;
    }
    free(im_steal(&got));
    config.tls_certificate = certificate;
    config.tls_key = key;
    http = http_open(&config, fake_cloud(), &failure);
    if (!check(http != NULL, "HTTPS starts: %s", failure.text))
        return;
    url = im_printf("https://127.0.0.1:%d/healthz", http_port(http));
    if (im_run((const char *[]){"curl", "-sk", url, NULL}, NULL, 10000, &got, &failure))
        check(strcmp(got, "ok\n") == 0, "and answers");
    else
        test_note("curl: %s", failure.text);
    http_close(http);
}

static void test_start_fails(void) {
    struct http_config config = test_config();

    config.address = "localhost";
    check_err(http_open(&config, fake_cloud(), &err) != NULL, IM_BAD_MESSAGE,
              "a name is no address to listen on");
    config.address = "127.0.0.1";
    config.port = port;
    check_err(http_open(&config, fake_cloud(), &err) != NULL, IM_INTERNAL, "a port that is taken");
}

static void test_closing(struct http *http) {
    int fd = open_console();
    int64_t start = im_mono_ms();

    http_close(http);
    check(im_mono_ms() - start < 3000, "closing ends an open console");
    close(fd);
    close(fake.console_peer);
}

int main(void) {
    struct http_config config = test_config();
    struct im_err failure = {0};
    struct http *http;

    im_log_set_level(IM_LOG_ERROR);
    http = http_open(&config, fake_cloud(), &failure);
    if (!check(http != NULL, "the server starts: %s", failure.text))
        return test_end();
    port = http_port(http);
    test_head();
    test_post();
    test_keep_alive();
    test_bad_queries();
    test_bad_transport();
    test_large();
    test_pages();
    test_upload();
    test_bad_uploads();
    test_download();
    test_racing_uploads();
    test_frames();
    test_console();
    test_slow();
    test_start_fails();
    test_tls();
    test_closing(http);
    free(answer);
    fake_done();
    return test_end();
}
