/*
 * replay.c - reading a replay: words, times, the steps by name.
 */
#include "tests/sim/replay.h"

#include "dkim/keytool.h"
#include "tests/sim/host.h"
#include "tests/sim/zone.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HOPS_SHOWN 40

bool replay_fail(struct replay *replay, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(replay->fault.text, sizeof(replay->fault.text), format, args);
    va_end(args);
    replay->fault.err = ERR_INVALID;
    return false;
}

/* ---- pairs ---- */

bool replay_pair(const char *word, struct replay_pair *out)
{
    size_t at = strcspn(word, "=<>~");
    size_t len;

    if (!word[at])
        return false;
    len = (word[at] == '<' || word[at] == '>') && word[at + 1] == '=' ? 2 : 1;
    out->key = str_make(word, at);
    memcpy(out->op, word + at, len);
    out->op[len] = '\0';
    out->value = str_of(word + at + len);
    return true;
}

static bool number_of(struct str text, bool is_span, uint64_t *out)
{
    return is_span ? span_parse(text, out) : str_u64(text, out);
}

bool replay_number_ok(const struct replay_pair *pair, uint64_t number, bool is_span, bool *out_ok)
{
    size_t dots = str_find(pair->value, STR(".."));
    uint64_t low, high;

    if (!number_of(str_head(pair->value, dots), is_span, &low))
        return false;
    high = low;
    if (dots < pair->value.len && !number_of(str_from(pair->value, dots + 2), is_span, &high))
        return false;
    if (strcmp(pair->op, "=") == 0)
        *out_ok = number >= low && number <= high;
    else if (pair->op[0] == '<')
        *out_ok = number < low || (pair->op[1] && number == low);
    else if (pair->op[0] == '>')
        *out_ok = number > low || (pair->op[1] && number == low);
    else
        return false;
    return true;
}

bool replay_text_ok(const struct replay_pair *pair, struct str text)
{
    if (pair->op[0] == '~')
        return pair->value.len == 0 || str_ifind(text, pair->value) < text.len;
    return str_ieq(text, pair->value);
}

/* ---- configuration ---- */

static struct str conf_key(struct str text)
{
    size_t end = 0;

    while (end < text.len && text.at[end] != '=' && text.at[end] != '{')
        end++;
    return str_trim(str_head(text, end));
}

/* What stands again under the same name replaces what stood before; "-NAME"
 * takes it away. */
bool replay_conf(struct replay *replay, struct str text)
{
    bool away = str_starts(text, STR("-"));
    struct str key = conf_key(str_from(text, away));
    size_t i = 0;

    while (i < replay->conf_count && !str_eq(str_of(replay->conf[i].key), key))
        i++;
    if (i == REPLAY_CONF_MAX)
        return replay_fail(replay, "too many sections");
    if (i == replay->conf_count) {
        if (away)
            return replay_fail(replay, "there is no \"" STR_FMT "\" to take away", STR_ARG(key));
        replay->conf[i].key = str_dup(key);
        replay->conf_count++;
    }
    free(replay->conf[i].text);
    replay->conf[i].text = str_dup(away ? STR_EMPTY : text);
    return true;
}

static bool build_conf(struct replay *replay, struct conf **out_conf)
{
    struct buf text;
    enum err rc;

    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < replay->conf_count; i++)
        buf_printf(&text, "%s\n", replay->conf[i].text);
    rc = conf_parse("configuration", buf_view(&text), out_conf, &replay->fault);
    buf_clear(&text);
    return rc == ERR_OK;
}

bool replay_open(struct replay *replay)
{
    struct relay_options options = {
        .folder = replay->folder,
        .is_lmdb = replay->is_lmdb,
        .tap = record_hop,
        .tap_arg = &replay->record,
    };
    struct conf *conf;
    enum err rc;

    if (replay->is_open)
        return true;
    if (!build_conf(replay, &conf))
        return false;
    replay->is_open = true;
    rc = relay_open(&replay->relay, &replay->world, &options, conf, &replay->fault);
    conf_unref(&conf);
    if (!rc)
        world_settle(&replay->world);
    return rc == ERR_OK;
}

bool replay_reload(struct replay *replay)
{
    struct conf *conf;
    enum err rc;

    if (!build_conf(replay, &conf))
        return false;
    rc = relay_reload(&replay->relay, conf, &replay->fault);
    conf_unref(&conf);
    return rc == ERR_OK;
}

/* ---- plain steps ---- */

static bool step_dns(struct replay *replay, char **words, size_t count)
{
    if (count < 2)
        return replay_fail(replay, "dns takes NAME TYPE VALUE or NAME STATUS");
    return zone_tell(replay->world.zone, words, count, &replay->fault) == ERR_OK;
}

static bool step_host(struct replay *replay, char **words, size_t count)
{
    if (count < 1)
        return replay_fail(replay, "host takes NAME [ADDRESS] [accepts] [KEY=VALUE]...");
    return host_tell(&replay->world, words, count, &replay->fault) == ERR_OK;
}

static bool step_reload(struct replay *replay, char **words, size_t count)
{
    (void)words;
    (void)count;
    return replay_reload(replay);
}

static bool step_restart(struct replay *replay, char **words, size_t count)
{
    (void)words;
    (void)count;
    world_forget_clock();
    return relay_restart(&replay->relay, &replay->fault) == ERR_OK;
}

static bool step_clock(struct replay *replay, char **words, size_t count)
{
    bool back = count == 1 && words[0][0] == '-';
    uint64_t ms;

    if (count != 1 || !span_parse(str_of(words[0] + (back || words[0][0] == '+')), &ms))
        return replay_fail(replay, "clock takes +TIME or -TIME");
    world_set_clock(&replay->world, (back ? -1 : 1) * (int64_t)(ms / 1000));
    return true;
}

static bool step_flush(struct replay *replay, char **words, size_t count)
{
    (void)relay_change(&replay->relay, STORE_RETRY,
                       &(struct store_filter){ .lane = str_of(count ? words[0] : ""),
                                               .any_state = false,
                                               .state = RECIPIENT_QUEUED });
    relay_flush(&replay->relay, str_of(count ? words[0] : ""));
    return true;
}

/* The alias file has these lines from now on. */
static bool step_aliases(struct replay *replay, char **words, size_t count)
{
    char path[512];
    FILE *out;

    (void)snprintf(path, sizeof(path), "%s/aliases", replay->folder);
    out = fopen(path, "w");
    if (!out)
        return replay_fail(replay, "cannot write %s", path);
    for (size_t i = 0; i < count; i++)
        (void)fprintf(out, "%s\n", words[i]);
    return fclose(out) == 0;
}

static bool step_log(struct replay *replay, char **words, size_t count)
{
    record_print(&replay->record, count ? (size_t)atoi(words[0]) : HOPS_SHOWN);
    return true;
}

/* ---- operators ---- */

static bool filter_word(struct replay *replay, const struct replay_pair *pair,
                        struct store_filter *filter)
{
    if (str_eq(pair->key, STR("lane")))
        filter->lane = pair->value;
    else if (str_eq(pair->key, STR("from")))
        filter->sender = pair->value;
    else if (str_eq(pair->key, STR("to")))
        filter->recipient = pair->value;
    else
        return replay_fail(replay, "no filter \"" STR_FMT "\"", STR_ARG(pair->key));
    return true;
}

static bool change(struct replay *replay, enum store_change_kind kind, char **words, size_t count)
{
    struct store_filter filter = { .any_state = true };
    struct replay_pair pair, changed = { 0 };
    uint64_t number;
    bool ok = true;

    for (size_t i = 0; i < count; i++) {
        if (!replay_pair(words[i], &pair))
            return replay_fail(replay, "\"%s\": lane=, from=, to= or changed=", words[i]);
        if (str_eq(pair.key, STR("changed")))
            changed = pair;
        else if (!filter_word(replay, &pair, &filter))
            return false;
    }
    number = relay_change(&replay->relay, kind, &filter);
    if (kind == STORE_RETRY)
        relay_flush(&replay->relay, filter.lane); /* as the control interface does */
    if (changed.key.len && !replay_number_ok(&changed, number, false, &ok))
        return replay_fail(replay, "changed= takes a number");
    return ok || replay_fail(replay, "%llu recipients were changed", (unsigned long long)number);
}

static bool step_hold(struct replay *replay, char **words, size_t count)
{
    return change(replay, STORE_HOLD, words, count);
}

static bool step_release(struct replay *replay, char **words, size_t count)
{
    return change(replay, STORE_RELEASE, words, count);
}

static bool step_retry(struct replay *replay, char **words, size_t count)
{
    return change(replay, STORE_RETRY, words, count);
}

static bool step_drop(struct replay *replay, char **words, size_t count)
{
    return change(replay, STORE_DROP, words, count);
}

/* ---- lines ---- */

static const struct {
    const char *word;
    replay_step_fn *fn;
    bool needs_relay;
} steps[] = {
    { "dns", step_dns, false },      { "host", step_host, false },
    { "accept", step_accept, true }, { "expect", step_expect, true },
    { "reload", step_reload, true }, { "restart", step_restart, true },
    { "clock", step_clock, true },   { "flush", step_flush, true },
    { "hold", step_hold, true },     { "release", step_release, true },
    { "retry", step_retry, true },   { "drop", step_drop, true },
    { "log", step_log, true },       { "aliases", step_aliases, false },
};

/* Words apart; quotes keep spaces and go. Cuts `line`. */
static bool cut(struct replay *replay, char *line, char **words, size_t *out_count)
{
    char *to = line;
    bool in_word = false, quoted = false;

    *out_count = 0;
    for (char *at = line; *at; at++) {
        if (!quoted && *at == '#' && !in_word)
            break;
        if (!quoted && (*at == ' ' || *at == '\t')) {
            if (in_word)
                *to++ = '\0';
            in_word = false;
            continue;
        }
        if (!in_word) {
            if (*out_count == REPLAY_WORDS_MAX)
                return replay_fail(replay, "too many words");
            words[(*out_count)++] = to;
        }
        in_word = true;
        if (*at == '"')
            quoted = !quoted;
        else
            *to++ = *at;
    }
    *to = '\0';
    return !quoted || replay_fail(replay, "a quote is not closed");
}

static bool go_to(struct replay *replay, const char *word)
{
    uint64_t ms, now = world_now_ms(&replay->world);
    bool further = word[0] == '+';

    if (!span_parse(str_of(word + further), &ms))
        return replay_fail(replay, "\"%s\" is not a time", word);
    if (further)
        ms += now;
    if (ms < now)
        return replay_fail(replay, "it is later than that already");
    world_run_until(&replay->world, ms);
    return true;
}

static bool run_words(struct replay *replay, char **words, size_t count)
{
    if (count > 1 && strcmp(words[0], "at") == 0) {
        if (!replay_open(replay) || !go_to(replay, words[1]))
            return false;
        words += 2;
        count -= 2;
    }
    if (count == 0)
        return true;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (strcmp(words[0], steps[i].word) != 0)
            continue;
        if (steps[i].needs_relay && !replay_open(replay))
            return false;
        if (!steps[i].fn(replay, words + 1, count - 1))
            return false;
        if (replay->is_open)
            world_settle(&replay->world);
        return true;
    }
    return replay_fail(replay, "\"%s\" is no step", words[0]);
}

static bool run_line(struct replay *replay, char *line)
{
    struct str text = str_trim(str_of(line));
    char *words[REPLAY_WORDS_MAX];
    size_t count;

    if (text.len == 0 || text.at[0] == '#')
        return true;
    if (str_starts(text, STR("conf ")))
        return replay_conf(replay, str_trim(str_from(text, 5)));
    return cut(replay, line, words, &count) && run_words(replay, words, count);
}

/* A line ends with "\": the next one belongs to it. */
static bool read_line(FILE *in, struct buf *line, unsigned *number)
{
    char piece[4096];
    bool any = false;

    buf_reset(line);
    while (fgets(piece, sizeof(piece), in)) {
        struct str text = str_trim(str_of(piece));
        any = true;
        ++*number;
        if (!text.len || text.at[text.len - 1] != '\\') {
            buf_str(line, text);
            break;
        }
        buf_str(line, str_head(text, text.len - 1));
    }
    buf_char(line, '\0');
    return any;
}

/* ---- a run ---- */

static bool write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");

    if (!out)
        return false;
    (void)fputs(text, out);
    return fclose(out) == 0;
}

/* A folder with the files that configurations name: ${SIM}/secret, ${SIM}/key.pem. */
static bool make_folder(struct replay *replay)
{
    const char *tmp = getenv("TMPDIR");
    char path[512];

    (void)snprintf(replay->folder, sizeof(replay->folder), "%s/waypost-sim-XXXXXX",
                   tmp ? tmp : "/tmp");
    if (!mkdtemp(replay->folder))
        return replay_fail(replay, "no folder to work in");
    (void)setenv("SIM", replay->folder, 1);
    (void)setenv("TZ", "UTC", 1);
    (void)snprintf(path, sizeof(path), "%s/secret", replay->folder);
    if (!write_file(path, "secret\n"))
        return replay_fail(replay, "cannot write %s", path);
    (void)snprintf(path, sizeof(path), "%s/key.pem", replay->folder);
    return keytool_make(KEY_ED25519, path, &replay->fault) == ERR_OK;
}

static void remove_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    char path[1024];

    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (entry->d_type == DT_DIR)
            remove_folder(path);
        else
            (void)unlink(path);
    }
    if (dir)
        (void)closedir(dir);
    (void)rmdir(folder);
}

/* What every replay starts with: we are relay.here.test, and the people who
 * send have a home to which reports go. */
static bool begin(struct replay *replay)
{
    static const char *const lines[] = {
        "conf hostname = \"relay.here.test\"",
        "conf data = \"${SIM}\"",
        "conf aliases { file = \"${SIM}/aliases\" mailname = \"here.test\" forward = false }",
        "dns here.test MX 10 home.here.test",
        "dns home.here.test A 192.0.2.254",
        "host home 192.0.2.254",
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char *line = str_dup(str_of(lines[i]));
        bool ok = run_line(replay, line);
        free(line);
        if (!ok)
            return false;
    }
    return true;
}

static bool run_file(struct replay *replay, FILE *in)
{
    struct buf line;
    bool ok = true;

    buf_init(&line, 65536);
    while (ok && read_line(in, &line, &replay->line))
        ok = run_line(replay, line.at);
    buf_clear(&line);
    return ok;
}

static void end(struct replay *replay)
{
    if (replay->is_open)
        relay_close(&replay->relay);
    world_clear(&replay->world);
    record_clear(&replay->record);
    for (size_t i = 0; i < replay->conf_count; i++) {
        free(replay->conf[i].key);
        free(replay->conf[i].text);
    }
    remove_folder(replay->folder);
}

bool replay_run(const char *file, bool is_lmdb)
{
    struct replay *replay = mem_alloc(sizeof(*replay));
    FILE *in = fopen(file, "r");
    bool ok;

    replay->file = file;
    replay->is_lmdb = is_lmdb;
    world_init(&replay->world);
    ok = in ? make_folder(replay) : replay_fail(replay, "cannot be read");
    if (ok)
        ok = begin(replay) && run_file(replay, in);
    if (in)
        (void)fclose(in);
    if (!ok) {
        record_print(&replay->record, HOPS_SHOWN);
        (void)fprintf(stderr, "%s:%u: %s (over %s, at %.3fs)\n", file, replay->line,
                      replay->fault.text, is_lmdb ? "lmdb" : "mem",
                      replay->is_open ? (double)world_now_ms(&replay->world) / 1000.0 : 0.0);
    }
    end(replay);
    free(replay);
    return ok;
}
