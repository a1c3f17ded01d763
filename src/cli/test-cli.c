/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, widths, CSV, options and their help, and which setting wins. */
#include "cli-private.h"

#include <locale.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "harness/test.h"

/* --- Text and tables ----------------------------------------------------------------------------
 */

static void check_fit(const char *text, unsigned width, bool pad, const char *wanted) {
    IM_AUTO(im_str_done) struct im_str out = {0};

    text_fit(&out, text, width, pad);
    check(strcmp(out.data ? out.data : "", wanted) == 0, "in %u columns it is '%s', got '%s'",
          width, wanted, out.data ? out.data : "");
}

static void test_width(void) {
    check(text_width("abc") == 3, "letters take one column");
    check(text_width("测试") == 4, "Chinese takes two each");
    check(text_width("e\xcc\x81") == 1, "a combining accent takes none");
    check(text_width("\xff\xfe") == 2, "bytes that are no text count one each");
    check_fit("abcdef", 6, false, "abcdef");
    check_fit("abcdef", 5, false, "abcd…");
    check_fit("ab", 4, true, "ab  ");
    check_fit("测试镜像", 5, true, "测试…");
    check_fit("测试镜像", 4, true, "测… ");
    check_fit("a\033[31mb", 20, false, "a?[31mb");
    check_fit("a\nb", 3, false, "a?b");
    check_fit("", 3, true, "   ");
}

static char *layout(unsigned width) {
    static const char *titles[] = {"ID", "NAME", "SIZE", "CREATED"};
    static const bool right[] = {false, false, true, false};
    static const int ranks[] = {0, 1, 0, 2};
    static const char *const cells[] = {
        "i-1", "a name that is rather long", "20 GiB", "2024-01-02", "i-234", "short", "5 GiB", ""};
    struct table table = {titles, right, ranks, 4, {0}};
    char *text;

    for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
        im_strings_add(&table.cells, cells[i]);
    text = table_layout(&table, width, false);
    im_strings_done(&table.cells);
    return text;
}

static unsigned widest_line(const char *text) {
    IM_AUTO(im_strings_done) struct im_strings lines = {0};
    unsigned widest = 0;

    im_strings_split(&lines, text, "\n");
    for (size_t i = 0; i < lines.count; i++)
        if (text_width(lines.items[i]) > widest)
            widest = text_width(lines.items[i]);
    return widest;
}

static void test_table(void) {
    IM_AUTO(free_auto) char *all = layout(0);
    IM_AUTO(free_auto) char *narrow = layout(40);

    check(strcmp(all, "ID     NAME                          SIZE  CREATED\n"
                      "i-1    a name that is rather long  20 GiB  2024-01-02\n"
                      "i-234  short                        5 GiB\n") == 0,
          "without limit all columns stand as they are, numbers to the right");
    check(strstr(narrow, "CREATED") == NULL && strstr(narrow, "a name that is rather lo") != NULL,
          "what is less needed goes first");
    for (unsigned width = 20; width < 60; width++) {
        IM_AUTO(free_auto) char *text = layout(width);

        check(widest_line(text) <= width && strstr(text, "i-234") != NULL &&
                  strstr(text, "20 GiB") != NULL,
              "%u columns are kept to, ids and sizes whole", width);
    }
}

static void test_csv(void) {
    static const char *const rows[][2] = {{"plain", "plain"},
                                          {"", ""},
                                          {"a,b", "\"a,b\""},
                                          {"say \"hi\"", "\"say \"\"hi\"\"\""},
                                          {"two\nlines", "\"two\nlines\""},
                                          {"测试 镜像", "测试 镜像"}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        IM_AUTO(im_str_done) struct im_str out = {0};

        csv_field(&out, rows[i][0]);
        check(strcmp(out.data ? out.data : "", rows[i][1]) == 0, "CSV field %zu", i + 1);
    }
}

static void test_columns(void) {
    static const char json[] = "{\"id\":\"i-1\",\"size\":20,\"mem\":2048,\"status\":\"running\","
                               "\"transition_status\":\"stopping\",\"nets\":[{\"ip\":\"10.0.0.2\"}]"
                               ",\"keys\":[\"a\",\"b\"],"
                               "\"none\":null,\"flag\":1,\"percent\":40}";
    static const struct {
        struct column column;
        const char *shown, *raw;
    } rows[] = {
        {{"", "size", FORM_GIB, 0}, "20 GiB", "20"},
        {{"", "mem", FORM_MIB, 0}, "2.0 GiB", "2048"},
        {{"", "status", FORM_STATE, 0}, "running (stopping)", "running"},
        {{"", "nets.0.ip", FORM_TEXT, 0}, "10.0.0.2", "10.0.0.2"},
        {{"", "nets.1.ip", FORM_TEXT, 0}, "", ""},
        {{"", "id.x", FORM_TEXT, 0}, "", ""},
        {{"", "keys", FORM_LIST, 0}, "a b", "a b"},
        {{"", "none", FORM_GIB, 0}, "", ""},
        {{"", "flag", FORM_YES, 0}, "yes", "1"},
        {{"", "percent", FORM_PROGRESS, 0}, "40 %", "40"},
    };
    struct im_err err = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = wire_parse(json, strlen(json), &err);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        IM_AUTO(free_auto) char *shown = column_text(&rows[i].column, wire_root(doc), false);
        IM_AUTO(free_auto) char *raw = column_text(&rows[i].column, wire_root(doc), true);

        check(strcmp(shown, rows[i].shown) == 0 && strcmp(raw, rows[i].raw) == 0,
              "%s is shown as '%s' and raw as '%s'", rows[i].column.path, shown, raw);
    }
}

/* --- Options ------------------------------------------------------------------------------------
 */

static bool parse(struct cli *cli, const char *line, bool *ret_help, struct im_err *err) {
    struct im_strings words = {0};
    bool passed;

    *cli = (struct cli){.out = stdout};
    im_strings_split(&words, line, " ");
    passed = cli_parse(cli, (int) words.count, words.items, ret_help, err);
    im_strings_done(&words);
    return passed;
}

static void check_usage(const char *line, const char *message, const char *hint) {
    struct im_err err = {0};
    struct cli cli;
    bool help;
    bool passed = parse(&cli, line, &help, &err);

    check(!passed && cli.exit == CLI_USAGE && strstr(err.text, message) != NULL &&
              strstr(cli.hint.data ? cli.hint.data : "", hint) != NULL,
          "'%s' is refused: %s; %s", line, err.text, cli.hint.data ? cli.hint.data : "");
    cli_done(&cli);
}

static void test_parse(void) {
    struct im_err err = {0};
    struct cli cli;
    bool help;

    check(parse(&cli,
                "-o json instance run --image=x -c 2 --memory 2G --network a,b --network c -wq "
                "--disk 40G",
                &help, &err),
          "options stand anywhere, with blank or =, short ones together: %s", err.text);
    check(strcmp(cli.command->verb, "run") == 0 && strcmp(cli_value(&cli, "image"), "x") == 0 &&
              strcmp(cli_value(&cli, "output"), "json") == 0 && cli_flag(&cli, "wait") &&
              cli_flag(&cli, "quiet") && cli_values(&cli, "network")->count == 3,
          "and are found");
    {
        IM_AUTO(client_params_done) struct client_params params = {0};
        struct im_str text = {0};

        cli_params(&cli, &params);
        for (size_t i = 0; i < params.names.count; i++)
            im_str_addf(&text, "%s=%s ", params.names.items[i], params.values.items[i]);
        check(strcmp(text.data, "image_id=x cpu=2 memory=2048 os_disk_size=40 ") == 0,
              "those with a parameter are sent, sizes in the API's units: %s", text.data);
        im_str_done(&text);
    }
    cli_done(&cli);
    check(parse(&cli, "instances ssh i-1 -l root -- uname -a", &help, &err) &&
              cli.rest.count == 2 && strcmp(cli.rest.items[1], "-a") == 0 && cli.args.count == 1,
          "words behind -- belong to the other program");
    cli_done(&cli);
    check(parse(&cli, "image --help import", &help, &err) && help && cli.command != NULL,
          "--help may stand before the verb");
    cli_done(&cli);
    check(parse(&cli, "image show -- -x", &help, &err) && strcmp(cli.args.items[0], "-x") == 0,
          "behind -- a word may begin with a dash");
    cli_done(&cli);
    check_usage("imge list", "no command imge", "imprint image");
    check_usage("image lst", "no command image lst", "imprint image list");
    check_usage("image list --limt 3", "unknown option --limt", "--limit");
    check_usage("image list -X", "unknown option -X", "imprint image list --help");
    check_usage("image list --limit", "wants a value", "--help");
    check_usage("image list --limit x", "not a whole number", "--help");
    check_usage("image list -o yaml", "none of: table json csv", "--help");
    check_usage("image list --reverse=1", "takes no value", "--help");
    check_usage("image show", "IMAGE… is missing", "--help");
    check_usage("image capture i-1 i-2", "i-2 is one word too many", "--help");
    check_usage("instance run", "--image IMAGE is missing", "instance run --help");
    check_usage("instance run -i x --memory 1500K", "no size", "--help");
}

static void test_sizes(void) {
    int64_t value = 7;

    check(cli_size_mib("2048", &value) && value == 2048, "a bare memory is MiB");
    check(cli_size_mib("2G", &value) && value == 2048, "2G is 2048 MiB");
    check(cli_size_gib("40", &value) && value == 40, "a bare disk is GiB");
    check(cli_size_gib("1T", &value) && value == 1024, "1T is 1024 GiB");
    check(!cli_size_gib("500M", &value) && !cli_size_mib("0", &value) &&
              !cli_size_mib("-1", &value) && !cli_size_mib("2X", &value) && value == 1024,
          "half sizes, none and nonsense are refused, the output untouched");
}

static void test_nearest(void) {
    static const char *const words[] = {"list", "show", "import", "terminate"};

    check(im_str_equal(cli_nearest("imprt", words, 4), "import"), "a letter lost is found");
    check(im_str_equal(cli_nearest("term", words, 4), "terminate"), "a beginning is found");
    check(cli_nearest("zzzzzz", words, 4) == NULL, "what is near to nothing is not guessed");
}

/* Every option of the tables stands in the help of its command and no other does; letters and names
 * are used once. */
static void check_help(const struct noun *noun, const struct command *command) {
    struct cli cli = {.noun = noun, .command = command};
    IM_AUTO(free_auto) char *text = NULL;
    size_t len = 0, stated = 0, found = 0;
    FILE *out = open_memstream(&text, &len);
    const struct option *tables[5];
    bool letters[128] = {false}, twice = false;

    cli_help(&cli, out, 80);
    fclose(out);
    cli_option_tables(command, tables);
    for (size_t t = 0; tables[t] != NULL; t++)
        for (const struct option *option = tables[t]; option->name != NULL; option++) {
            IM_AUTO(free_auto)
            char *entry = im_printf("--%s%s", option->name, option->metavar ? " " : "");

            stated++;
            found += strstr(text, entry) != NULL;
            if (option->letter) {
                twice = twice || letters[(int) option->letter];
                letters[(int) option->letter] = true;
            }
        }
    for (const char *line = text; line != NULL; line = strchr(line, '\n'), line += line != NULL)
        if ((line[0] == ' ' && line[1] == ' ' && line[2] == '-') ||
            strncmp(line, "      --", 8) == 0)
            stated--;
    check(found > 0 && stated == 0, "help of %s %s has exactly the options of its table",
          noun->name, command->verb);
    check(!twice, "%s %s has each letter once", noun->name, command->verb);
    check(widest_line(text) <= 100 && command->help[strlen(command->help) - 1] == '.',
          "%s %s fits a terminal and ends its sentence", noun->name, command->verb);
}

static void test_help(void) {
    for (const struct noun *noun = cli_nouns; noun->name != NULL; noun++)
        for (const struct command *command = noun->commands; command->verb != NULL; command++)
            check_help(noun, command);
}

/* --- Settings -----------------------------------------------------------------------------------
 */

static void load(struct cli *cli, const char *line, struct im_err *err) {
    bool help;

    check(parse(cli, line, &help, err) && cli_settings_load(cli, err), "%s: %s", line, err->text);
}

static void test_settings(void) {
    static const char config[] = "# mine\n[imprint]\nendpoint = http://file:1/\n"
                                 " access_key_id=FILEKEY \nsecret_access_key = filesecret\n";
    IM_AUTO(free_auto) char *folder = im_printf("%s/imprint", test_folder());
    IM_AUTO(free_auto) char *path = im_printf("%s/config", folder);
    IM_AUTO(free_auto) char *secret = im_printf("%s/secret", folder);
    IM_AUTO(free_auto) char *line = im_printf("image list --secret-file %s", secret);
    struct im_err err = {0};
    struct cli cli;
    bool help;

    setenv("XDG_CONFIG_HOME", test_folder(), 1);
    unsetenv("IMPRINT_CONFIG");
    load(&cli, "image list", &err);
    check(im_str_equal(cli.settings.endpoint, "http://127.0.0.1:7200/iaas/") &&
              cli.settings.secret == NULL,
          "without a file the endpoint is this machine's");
    cli_done(&cli);
    check(im_make_dirs(folder, 0700, &err) &&
              im_write_file(path, config, strlen(config), 0600, &err) &&
              im_write_file(secret, "othersecret\nmore\n", 17, 0600, &err),
          "a file is made");
    load(&cli, "image list", &err);
    check(im_str_equal(cli.settings.endpoint, "http://file:1/") &&
              im_str_equal(cli.settings.access_key_id, "FILEKEY") &&
              im_str_equal(cli.settings.secret, "filesecret") &&
              im_str_equal(cli.settings.secret_from, path),
          "the file is read, and where the secret was is known");
    cli_done(&cli);
    setenv("IMPRINT_ENDPOINT", "http://env:1/", 1);
    setenv("IMPRINT_SECRET_ACCESS_KEY", "envsecret", 1);
    load(&cli, "image list", &err);
    check(im_str_equal(cli.settings.endpoint, "http://env:1/") &&
              im_str_equal(cli.settings.secret, "envsecret") &&
              im_str_equal(cli.settings.secret_from, "IMPRINT_SECRET_ACCESS_KEY") &&
              im_str_equal(cli.settings.access_key_id, "FILEKEY"),
          "the environment outranks the file");
    cli_done(&cli);
    load(&cli, "image list --endpoint http://option:1/", &err);
    check(im_str_equal(cli.settings.endpoint, "http://option:1/"), "options outrank both");
    cli_done(&cli);
    load(&cli, line, &err);
    check(im_str_equal(cli.settings.secret, "othersecret") &&
              im_str_equal(cli.settings.secret_from, secret),
          "a secret's file is its first line");
    cli_done(&cli);
    check(im_write_file(path, "endpoint = x\nbogus = 1\n", 23, 0600, &err), "a bad file");
    check(parse(&cli, "image list", &help, &err) && !cli_settings_load(&cli, &err) &&
              strstr(err.text, "config:2: unknown key bogus") != NULL,
          "an unknown key is named with its line: %s", err.text);
    cli_done(&cli);
}

int main(void) {
    setlocale(LC_CTYPE, "C.UTF-8");
    test_width();
    test_table();
    test_csv();
    test_columns();
    test_parse();
    test_sizes();
    test_nearest();
    test_help();
    test_settings();
    return test_end();
}
