/* SPDX-License-Identifier: Apache-2.0 */
/* The query API from raw text to reply, over the fake cloud: order of checks, both passes of the
 * signature, values, kept replies, and the members and types of every object that is listed. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "fake-cloud.h"
#include "test-client.h"
#include "harness/test.h"

static struct http http;
static char *reply;

static const char *ask_raw(const char *method, const char *path, const char *raw) {
    struct text_ref *text = api_answer(&http, method, path, raw, strlen(raw));

    free(reply);
    reply = im_strdup(text->bytes);
    text_unref(text);
    return reply;
}

static const char *ask(const char *query) {
    IM_AUTO(free_auto) char *text = test_signed("GET", "/iaas/", query, NULL, 0);

    return ask_raw("GET", "/iaas/", text);
}

static void expect(const char *query, int64_t code, const char *words) {
    ask(query);
    check(test_ret_code(reply) == code && (words == NULL || strstr(test_message(reply), words)),
          "[%.60s] is %" PRId64 " \"%s\" (%s)", query, code, words ? words : "",
          test_message(reply));
}

/* --- Signing ------------------------------------------------------------------------------------
 */

/* The same awkward values as in the published test vector; time and order vary. */
#define AWKWARD                                                                                    \
    "instance_name=web%2001%2F%E6%B5%8B%E8%AF%95%2A~&login_passwd=P%40ss%2Bw0rd%3D%261&hostname="

static void test_passes(void) {
    char now[IM_TIME_TEXT];
    IM_AUTO(free_auto) char *sorted = NULL, *unsorted = NULL, *bare = NULL, *sent = NULL;
    const char *at;

    im_time_format(im_now_s(), now);
    sorted = im_printf("access_key_id=" FAKE_ADMIN_KEY
                       "&action=DescribeZones&hostname=&name=a%%20b%%2Ac&signature_method=HmacSHA1&"
                       "signature_version=1&time_stamp=%.13s%%3A%.2s%%3A%.3s",
                       now, now + 14, now + 17);
    sent = test_sign_raw("GET", "/iaas/", sorted, true);
    ask_raw("GET", "/iaas/", sent);
    check(test_ret_code(reply) == 0, "canonical, SHA-1 (%s)", test_message(reply));
    check(test_ret_code(ask_raw("GET", "/iaas", sent)) == 1200, "the path is signed too");
    check(test_ret_code(ask_raw("POST", "/iaas/", sent)) == 1200, "and the method");

    /* Sent as a form in another order, with blanks as '+'; signed canonically. */
    at = strstr(sent, "&signature=");
    unsorted = im_printf("name=a+b*c&hostname=%s&signature_version=1&signature_method=HmacSHA1&"
                         "time_stamp=%s&action=DescribeZones&access_key_id=" FAKE_ADMIN_KEY,
                         at, now);
    ask_raw("GET", "/iaas/", unsorted);
    check(test_ret_code(reply) == 0, "form, any order (%s)", test_message(reply));

    /* Signed as sent: an empty value without '='. */
    bare = im_printf("action=DescribeZones&hostname&access_key_id=" FAKE_ADMIN_KEY
                     "&signature_method=HmacSHA256&signature_version=1&time_stamp=%s",
                     now);
    free(im_steal(&sent));
    sent = test_sign_raw("POST", "/iaas", bare, false);
    ask_raw("POST", "/iaas", sent);
    check(test_ret_code(reply) == 0, "raw, an empty value without '=' (%s)", test_message(reply));
}

static void test_signature_places(void) {
    IM_AUTO(free_auto) char *whole = test_signed("GET", "/iaas/", "action=DescribeZones", NULL, 0);
    char *mark = strstr(whole, "&signature=");
    IM_AUTO(free_auto) char *front = im_printf("%s&%.*s", mark + 1, (int) (mark - whole), whole);
    IM_AUTO(free_auto) char *plus = NULL;
    char *escape;

    check(test_ret_code(ask_raw("GET", "/iaas/", front)) == 0, "the signature may come first");
    /* Unencoded base64: '+' arrives as a blank. */
    plus = im_strdup(whole);
    while ((escape = strstr(plus, "%2B")) != NULL && escape > strstr(plus, "&signature=")) {
        *escape = '+';
        memmove(escape + 1, escape + 3, strlen(escape + 3) + 1);
    }
    check(test_ret_code(ask_raw("GET", "/iaas/", plus)) == 0, "a '+' in it may be unencoded");
    mark += mark[11] == '%' ? 14 : 11; /* a letter of base64, not one of an escape */
    *mark = *mark == 'A' ? 'B' : 'A';
    check(test_ret_code(ask_raw("GET", "/iaas/", whole)) == 1200, "a wrong one is refused");
}

static void test_time(void) {
    IM_AUTO(free_auto) char *old = test_signed("GET", "/iaas/", "action=DescribeZones", NULL, 90);
    IM_AUTO(free_auto)
    char *early = test_signed("GET", "/iaas/", "action=DescribeZones", NULL, -90);
    IM_AUTO(free_auto) char *wide = NULL, *past = NULL, *query = NULL;
    char then[IM_TIME_TEXT];

    check(test_ret_code(ask_raw("GET", "/iaas/", old)) == 1300, "90 s old: expired");
    check(test_ret_code(ask_raw("GET", "/iaas/", early)) == 1300, "90 s early: refused");
    im_time_format(im_now_s() + 600, then);
    query = im_printf("action=DescribeZones&expires=%s", then);
    wide = test_signed("GET", "/iaas/", query, NULL, 90);
    check(test_ret_code(ask_raw("GET", "/iaas/", wide)) == 0, "expires in the future widens");
    free(im_steal(&query));
    im_time_format(im_now_s() - 5, then);
    query = im_printf("action=DescribeZones&expires=%s", then);
    past = test_signed("GET", "/iaas/", query, NULL, 10);
    check(test_ret_code(ask_raw("GET", "/iaas/", past)) == 1300, "expires in the past refuses");
}

/* --- Order of checks ----------------------------------------------------------------------------
 */

static void test_order(void) {
    IM_AUTO(free_auto) char *stranger = NULL, *elsewhere = NULL;
    char now[IM_TIME_TEXT];

    check(test_ret_code(ask_raw("GET", "/iaas/", "a=%zz&action=Nonsense")) == 1100, "parse first");
    check(test_ret_code(ask_raw("GET", "/iaas/", "action=Nonsense")) == 1101, "then the action");
    check(test_ret_code(ask_raw("GET", "/iaas/", "action=describezones")) == 1101,
          "its case matters");
    check(test_ret_code(ask_raw("GET", "/iaas/", "action=DescribeZones&access_key_id=x")) == 1100,
          "then the common parameters");
    check(strstr(test_message(reply), "[time_stamp]") != NULL, "the missing one is named");
    stranger = test_signed("GET", "/iaas/", "action=DescribeImages", "NOBODY", 900);
    check(test_ret_code(ask_raw("GET", "/iaas/", stranger)) == 1200, "then who asks, before time");
    im_time_format(im_now_s(), now);
    elsewhere = im_printf("action=DescribeImages&zone=pek1&limit=x&access_key_id=" FAKE_ADMIN_KEY
                          "&signature_method=HmacSHA256&signature_version=1&time_stamp=%s",
                          now);
    stranger = (free(stranger), test_sign_raw("GET", "/iaas/", elsewhere, false));
    ask_raw("GET", "/iaas/", stranger);
    check(test_ret_code(reply) == 1400 &&
              strcmp(test_message(reply), "PermissionDenied, access denied for zone [pek1]") == 0,
          "then the zone, before other parameters (%s)", test_message(reply));
    expect("action=DescribeImages&limit=x", 1100, "[limit]");
}

static void test_rights(void) {
    IM_AUTO(free_auto)
    char *user = test_signed("GET", "/iaas/", "action=CheckPool", FAKE_USER_KEY, 0);

    check(test_ret_code(ask_raw("GET", "/iaas/", user)) == 1400, "a user may not check the pool");
    expect("action=CheckPool", 0, NULL);
    check(strstr(reply, "\"clean\":false") != NULL, "an administrator may");
}

/* --- Values -------------------------------------------------------------------------------------
 */

static void test_lists(void) {
    expect("action=StartInstances&instances.2=b&instances.10=c&instances.1=a", 0, NULL);
    check(fake.ids.count == 3 && strcmp(fake.ids.items[0], "a") == 0 &&
              strcmp(fake.ids.items[1], "b") == 0 && strcmp(fake.ids.items[2], "c") == 0,
          "items come in the order of their numbers, gaps or not");
    expect("action=StartInstances&instances=a", 0, NULL);
    check(fake.ids.count == 1, "one value may stand without a number");
    expect("action=StartInstances&instances.1=", 1100, "[instances.n]");
    expect("action=StartInstances", 1100, "[instances.n]");
    expect("action=StartInstances&instances.x=a&instancesfoo=b", 1100, "[instances.n]");
    expect("action=CaptureInstance&instance.1=i-1", 0, NULL);
    check(im_str_equal(fake.texts[0], "i-1"), "a list where one value belongs");
}

static void test_pages(void) {
    expect("action=DescribeImages&limit=0", 0, NULL);
    check(fake.query.limit == 20, "limit=0 is the default");
    expect("action=DescribeImages&limit=1000", 0, NULL);
    check(fake.query.limit == 100, "more than 100 is 100");
    expect("action=DescribeImages&limit=-1", 1100, "[limit]");
    expect("action=DescribeImages&offset=-1", 1100, "[offset]");
    expect("action=DescribeImages&offset=99999999999999999999", 1100, "[offset]");
    expect("action=DescribeImages&sort_key=create_time&reverse=1", 0, NULL);
    check(fake.query.ascending, "reverse turns the order round");
    expect("action=DescribeImages&sort_key=layer_id", 1100, "[sort_key]");
    expect("action=DescribeImages&sort_key=1;drop", 1100, "[sort_key]");
    expect("action=DescribeImages&unknown=1&os_family.1=debian&status=available&search_word=", 0,
           NULL);
    check(fake.query.condition_count == 2 && fake.query.search == NULL,
          "filters become conditions, empty ones do not");
}

static void test_run(void) {
    expect("action=RunInstances&image_id=debian&instance_type=c2m4&cpu=1&memory=1024&"
           "cpu_model=Westmere&userdata_file=/etc/rc.local&vxnets.1=vxnet-0%7C10.0.0.9",
           0, NULL);
    check(fake.flags[0] && fake.texts[2] == NULL,
          "the Go SDK's defaults are known for what they are");
    check(fake.ids.count == 1 && strcmp(fake.ids.items[0], "vxnet-0|10.0.0.9") == 0,
          "networks keep their address");
    expect("action=RunInstances&image_id=debian&cpu=1&memory=1024&cpu_model=Haswell", 0, NULL);
    check(!fake.flags[0] && im_str_equal(fake.texts[2], "Haswell"),
          "chosen values are taken as such");
    expect("action=RunInstances&image_id=debian&cpu=0&memory=0&instance_class=0&count=0", 0, NULL);
    check(fake.numbers[0] == -1 && fake.numbers[1] == -1 && fake.numbers[2] == 1 &&
              fake.numbers[3] == 0,
          "0 means not given, but as a class");
    expect("action=RunInstances&image_id=debian&start=0", 0, NULL);
    check(fake.flags[1], "start=0 leaves them stopped");
    expect("action=RunInstances&image_id=debian", 0, NULL);
    check(!fake.flags[1], "without it they start");
    expect("action=RunInstances&image_id=", 1100, "[image_id]");
    expect("action=RunInstances&image_id=x&login_mode=magic", 1100, "[login_mode]");
    expect("action=RunInstances&image_id=x&count=1001", 1100, "[count]");
    expect("action=RunInstances&image_id=x&cpu=1e3", 1100, "[cpu]");
}

static void test_modify(void) {
    expect("action=ModifyImageAttributes&image=img-1&description=", 0, NULL);
    check(fake.texts[1] == NULL && im_str_equal(fake.texts[2], "") && fake.texts[2] != NULL,
          "in a modify, an empty value empties and an absent one does not");
}

static void test_replies(void) {
    expect("action=CreateKeyPair&mode=user&keypair_name=k&public_key=ssh-rsa%20AAAA", 0, NULL);
    check(strstr(reply, "\"private_key\":\"\"") != NULL, "private_key is there, empty");
    expect("action=CreateKeyPair&mode=user&keypair_name=k", 1100, "[public_key]");
    expect("action=CloneInstances&instances.1=i-a&instances.2=i-b", 0, NULL);
    check(strstr(reply, "\"instance_set\":{\"i-a\":{\"instance_map\":{\"i-a\":\"i-clone000\"},"
                        "\"volumes_map\":{\"vol-f9ufyi00\":\"vol-df3m8o00\"}},\"i-b\":") != NULL,
          "CloneInstances shows an object by source");
    expect("action=DescribeVxnets&vxnets.1=vxnet-0", 0, NULL);
    check(strstr(reply, "\"total_count\":1") != NULL, "the basic network is there");
    check(strstr(reply, "\"description\":\"bridge imbr0 on the host\",\"available_ip_count\":4092,"
                        "\"mode\":\"bridge\",\"ip_network\":\"10.180.0.0/20\"") != NULL,
          "as the host has it");
    expect("action=DescribeVxnets&vxnets.1=vxnet-9", 0, NULL);
    check(strstr(reply, "\"total_count\":0,\"vxnet_set\":[]") != NULL, "no other one is");
    expect("action=DescribeJobs&jobs.1=j-none", 0, NULL);
    check(strstr(reply, "\"total_count\":0,\"job_set\":[]") != NULL, "nothing is an empty set");
    expect("action=DescribeJobs", 0, NULL);
    check(strstr(reply, "\"percent\":25") && strstr(reply, "\"eta_seconds\":8") &&
              strstr(reply, "\"error_code\":\"NO_SPACE\",\"ret_code\":5200"),
          "a job shows how far it is");
    expect("action=GetInstanceSSH&instance=i-1", 0, NULL);
    check(strstr(reply, "\"host\":\"127.0.0.1\",\"port\":2222,\"user\":\"root\"") != NULL, "SSH");
    expect("action=DescribeAccessKeys", 0, NULL);
    check(strstr(reply, "never-shown") == NULL, "no secret in a list of keys");
    expect("action=CreateUser&user_name=eve&role=admin", 0, NULL);
    check(strstr(reply, "usr-cccccccc") != NULL && fake.flags[0], "users are added");
}

static void test_errors(void) {
    im_fail(&fake.fail, IM_WRONG_STATE, "instance [i-2aypaijz] is not running, can not be stopped");
    expect("action=StopInstances&instances.1=i-2aypaijz", 1400, NULL);
    check(strcmp(test_message(reply),
                 "PermissionDenied, instance [i-2aypaijz] is not running, can not be stopped") == 0,
          "a client's fault reaches it word for word");
    im_fail(&fake.fail, IM_INTERNAL, "disk /secret/path is on fire");
    im_log_set_level(IM_LOG_ERROR);
    expect("action=StopInstances&instances.1=i-2aypaijz", 5000, "InternalError");
    check(strstr(reply, "/secret") == NULL && strstr(reply, "request_id\":\"r-") != NULL,
          "ours does not; it has a request id");
    im_fail(&fake.fail, IM_NO_SPACE, "pool is full");
    expect("action=StopInstances&instances.1=i-2aypaijz", 5200,
           "InsufficientResource, pool is full");
}

/* --- Kept replies -------------------------------------------------------------------------------
 */

static void test_cache(void) {
    unsigned before;

    fake.generation++;
    before = fake.image_lists;
    ask("action=DescribeImages&limit=20");
    ask("action=DescribeImages&limit=20&req_id=abc");
    check(fake.image_lists == before + 1, "the same question is answered once");
    ask("action=DescribeImages&limit=19");
    check(fake.image_lists == before + 2, "another question is not");
    check(fake.query.total == 3, "but another page is not counted again");
    ask("action=DescribeImages&limit=19&status.1=available");
    check(fake.query.total == 0, "other filters are");
    before++;
    fake.generation++;
    ask("action=DescribeImages&limit=20");
    check(fake.image_lists == before + 3 && fake.query.total == 0,
          "nor the same one after a change");
    fake.generation = 0;
    ask("action=DescribeImages&limit=20");
    ask("action=DescribeImages&limit=20");
    check(fake.image_lists == before + 5, "nothing is kept where changes can not be seen");
    fake.generation = 100;
    {
        IM_AUTO(free_auto)
        char *user =
            test_signed("GET", "/iaas/", "action=DescribeImages&limit=20", FAKE_USER_KEY, 0);

        ask("action=DescribeImages&limit=20");
        ask_raw("GET", "/iaas/", user);
        check(fake.image_lists == before + 7, "users do not see each other's replies");
    }
    fake.image_count = 5000;
    for (int i = 0; i < 300; i++) {
        IM_AUTO(free_auto) char *query = im_printf("action=DescribeImages&offset=%d", i);

        ask(query);
    }
    before = fake.image_lists;
    ask("action=DescribeImages&offset=299");
    check(fake.image_lists == before, "the newest of many is still kept");
    ask("action=DescribeImages&offset=0");
    check(fake.image_lists == before + 1, "the oldest was dropped");
    fake.image_count = 3;
    ask("action=DescribeInstances&verbose=1");
    check(fake.flags[0], "verbose instances ask the machines");
}

/* --- Objects ------------------------------------------------------------------------------------
 */

static bool fits(const struct wire_value *value, const char *type) {
    bool nullable = im_ends_with(type, "?");
    enum wire_kind kind = wire_kind(value);
    int64_t ignored;

    if (kind == WIRE_NULL)
        return nullable;
    if (im_starts_with(type, "time"))
        return kind == WIRE_TEXT && im_time_parse(wire_as_text(value, ""), &ignored) &&
               strlen(wire_as_text(value, "")) == 20;
    return (im_starts_with(type, "text") && kind == WIRE_TEXT) ||
           (im_starts_with(type, "int") && kind == WIRE_INT) ||
           (im_starts_with(type, "array") && kind == WIRE_ARRAY) ||
           (im_starts_with(type, "object") && kind == WIRE_OBJECT);
}

static void check_members(const char *action, const struct wire_value *object,
                          const struct wire_value *members) {
    for (size_t i = 0; i < wire_count(members); i++) {
        const char *name = wire_key_at(members, i),
                   *type = wire_as_text(wire_member_at(members, i), "");

        if (!fits(wire_get(object, name), type))
            check(false, "%s: %s is not of type %s", action, name, type);
    }
    check(wire_count(members) > 0 && wire_kind(object) == WIRE_OBJECT, "%s: %zu members", action,
          wire_count(members));
}

static void check_action(const char *action, const struct wire_value *form) {
    IM_AUTO(free_auto) char *query = im_printf("action=%s", action);
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *set, *inner = wire_get(form, "inner"), *first;
    struct im_err failure = {0};

    ask(query);
    doc = wire_parse(reply, strlen(reply), &failure);
    set = wire_get(wire_root(doc), wire_get_text(form, "set", ""));
    first = wire_at(set, 0);
    check(wire_get_int(wire_root(doc), "total_count", -1) > 0 && first != NULL,
          "%s lists something with its count", action);
    check_members(action, first, wire_get(form, "members"));
    for (size_t i = 0; i < wire_count(inner); i++) {
        const struct wire_value *part = wire_get(first, wire_key_at(inner, i));

        check_members(wire_key_at(inner, i),
                      wire_kind(part) == WIRE_ARRAY ? wire_at(part, 0) : part,
                      wire_member_at(inner, i));
    }
}

static void test_objects(const char *path) {
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    struct im_err failure = {0};
    size_t len;

    if (!im_read_file(path, 1 << 20, &text, &len, &failure) ||
        (doc = wire_parse(text, len, &failure)) == NULL) {
        check(false, "%s: %s", path, failure.text);
        return;
    }
    for (size_t i = 0; i < wire_count(wire_root(doc)); i++)
        if (wire_kind(wire_member_at(wire_root(doc), i)) == WIRE_OBJECT)
            check_action(wire_key_at(wire_root(doc), i), wire_member_at(wire_root(doc), i));
}

/* --- Series -------------------------------------------------------------------------------------
 */

#define SPAN "&step=5m&start_time=2023-11-14T22:15:00Z&end_time=2023-11-14T23:15:00.5Z"

static void expect_text(const char *query, const char *text) {
    ask(query);
    check(test_ret_code(reply) == 0 && strstr(reply, text) != NULL, "[%.60s] tells %s (%s)", query,
          text, reply);
}

/* What clients expand: the first value with its time, then values a step apart, "NA" for one that
 * is missing, and the seconds since the last one where more are. The fake has values of steps 1, 2,
 * 4 and 7. */
static void test_series(void) {
    fake.numbers[3] = 0;
    expect_text("action=GetMonitor&resource=i-1&meters.1=cpu&meters.2=memory" SPAN,
                "\"resource_id\":\"i-1\",\"meter_set\":["
                "{\"meter_id\":\"cpu\",\"data\":[[1700000400,11],12,\"NA\",14,[900,17]]},"
                "{\"meter_id\":\"memory\",\"data\":[]}]}");
    check(fake.numbers[0] == 1700000100 && fake.numbers[1] == 1700003700 && fake.numbers[2] == 300,
          "times and step arrive, fractions of a second do not matter");
    expect_text("action=GetMonitor&resource=i-1&meters.1=disk-os" SPAN,
                "{\"meter_id\":\"disk-os\",\"data\":"
                "[[1700000400,[11,21]],[12,22],\"NA\",[14,24],[900,[17,27]]]}");
    expect_text("action=GetMonitor&resource=i-1&meters.1=if-52:54:9e:01:02:03" SPAN,
                "{\"meter_id\":\"52:54:9e:01:02:03\",\"vxnet_id\":\"vxnet-0\",\"sequence\":0,"
                "\"data\":[[1700000400,[11,21]],");
}

static void test_series_refused(void) {
    static const struct {
        const char *query, *words;
    } bad[] = {
        {"&resource=i-1" SPAN, "[meters.n] is missing"},
        {"&meters.1=cpu" SPAN, "[resource] is missing"},
        {"&resource=i-1&meters.1=cpu&step=5m&start_time=2023-11-14T22:15:00Z",
         "[end_time] is missing"},
        {"&resource=i-1&meters.1=cpu&step=5m&start_time=yesterday&end_time=2023-11-14T22:15:00Z",
         "[start_time] is no time"},
        {"&resource=i-1&meters.1=cpu&step=-5m&start_time=2023-11-14T22:15:00Z"
         "&end_time=2023-11-14T22:15:00Z",
         "[step] must be one of"},
        {"&resource=i-1&meters.1=cpu&step=99999999999999999999&start_time=2023-11-14T22:15:00Z"
         "&end_time=2023-11-14T22:15:00Z",
         "[step] must be one of"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        IM_AUTO(free_auto)
        char *query = im_printf("action=GetMonitor%s", bad[i].query);

        expect(query, 1100, bad[i].words);
    }
    fake.fail = (struct im_err){.code = IM_NOT_FOUND, .text = "no"};
    expect("action=GetMonitor&resource=i-1&meters.1=cpu" SPAN, 2100, "no");
}

#define MONITORS "action=GetMonitors" SPAN "&resource_meters_pairs."

static void test_many_series(void) {
    struct im_str many = {0};

    /* By number, not by name; a JSON array each. */
    expect_text(MONITORS "10.resource=vol-1&resource_meters_pairs.10.meters=%5B%22memory%22%5D"
                         "&resource_meters_pairs.2.resource=i-1"
                         "&resource_meters_pairs.2.meters=%5B%22memory%22%2C%22cpu%22%5D",
                "\"monitors\":[{\"resource_id\":\"i-1\",\"meter_set\":"
                "[{\"meter_id\":\"memory\",\"data\":[]},{\"meter_id\":\"cpu\",\"data\":"
                "[[1700000400,11],12,\"NA\",14,[900,17]]}]},{\"resource_id\":\"vol-1\",");
    expect("action=GetMonitors" SPAN, 1100, "n.resource] is missing");
    expect(MONITORS "1.resource=i-1", 1100, "no JSON array");
    expect(MONITORS "1.resource=i-1&resource_meters_pairs.1.meters=cpu", 1100, "no JSON array");
    expect(MONITORS "1.resource=i-1&resource_meters_pairs.1.meters=%5B%5D", 1100, "no JSON array");
    expect(MONITORS "x.resource=i-1", 1100, "n.resource] is missing");
    fake.numbers[3] = 300000;
    expect(MONITORS "1.resource=i-1&resource_meters_pairs.1.meters=%5B%22memory%22%5D"
                    "&resource_meters_pairs.2.resource=i-2"
                    "&resource_meters_pairs.2.meters=%5B%22memory%22%5D",
           1100, "more than 500000 values");
    fake.numbers[3] = 0;
    im_str_add(&many, "action=GetMonitors" SPAN);
    for (int i = 0; i < 101; i++)
        im_str_addf(&many,
                    "&resource_meters_pairs.%d.resource=i-1"
                    "&resource_meters_pairs.%d.meters=%%5B%%22cpu%%22%%5D",
                    i, i);
    expect(many.data, 1100, "more than 100 resources");
    im_str_done(&many);
}

/* --- The table ----------------------------------------------------------------------------------
 */

static void check_param(const struct http_action *action, const struct http_param *param) {
    check(param->about != NULL && param->about[0] != '\0' && param->max >= param->min &&
              (param->type != HTTP_WORD) == (param->words == NULL),
          "%s: %s is described", action->name, param->name);
    if (param->field != NULL)
        check(action->type != NULL && object_field(action->type, param->field) != NULL,
              "%s: %s filters by a field there is", action->name, param->name);
}

static void test_table(void) {
    size_t count;
    const struct http_action *const *all = http_actions(&count);

    check(count > 30, "the table has %zu actions", count);
    for (size_t i = 0; i < count; i++) {
        check(i == 0 || strcmp(all[i - 1]->name, all[i]->name) < 0, "%s is there once",
              all[i]->name);
        check(all[i]->about != NULL && all[i]->handle != NULL &&
                  action_find(all[i]->name) == all[i],
              "%s is found", all[i]->name);
        for (const struct http_param *param = all[i]->params; param->name != NULL; param++)
            check_param(all[i], param);
    }
}

int main(int argc, char **argv) {
    http = (struct http){.config = test_config(), .cloud = fake_cloud()};
    http.cache = cache_new(http.config.cache_bytes);
    http.metrics = metrics_new();
    test_passes();
    test_signature_places();
    test_time();
    test_order();
    test_rights();
    test_lists();
    test_pages();
    test_run();
    test_modify();
    test_replies();
    test_errors();
    test_cache();
    test_series();
    test_series_refused();
    test_many_series();
    test_objects(argc > 1 ? argv[1] : "tests/api/objects.json");
    test_table();
    cache_free(http.cache);
    metrics_free(http.metrics);
    free(reply);
    fake_done();
    return test_end();
}
