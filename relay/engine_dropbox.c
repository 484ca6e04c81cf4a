/*
 * engine_dropbox.c - the drop folder of sendmail(1), on loop 0.
 */
#include "relay/engine_impl.h"

static void drop_gone(void *arg)
{
    struct engine *engine = arg;

    engine->drops_alive--;
    engine_loop_look_done(&engine->loops[0]);
}

static struct dropbox_options options_of(struct engine *engine, const struct setup *setup)
{
    const struct conf *conf = setup->conf;

    return (struct dropbox_options){
        .loop = engine->loops[0].loop,
        .store = engine->store,
        .intake = engine->loops[0].intake,
        .folder = conf->sendmail.drop,
        .hostname = conf->hostname,
        .message_size = conf->limits.message_size,
        .user_messages = conf->sendmail.drop_messages,
        .user_bytes = conf->sendmail.drop_size,
        .report = engine_dropbox_report,
        .gone = drop_gone,
        .arg = engine,
    };
}

void engine_dropbox_start(struct engine *engine)
{
    struct dropbox_options options = options_of(engine, engine->setup);

    engine->dropbox = dropbox_new(&options);
    engine->drops_alive++;
}

void engine_dropbox_apply(struct engine_loop *own, const struct setup *setup)
{
    struct dropbox_options options = options_of(own->engine, setup);

    if (loop_index(own->loop) == 0 && own->engine->dropbox)
        dropbox_set(own->engine->dropbox, &options);
}

void engine_dropbox_stop(struct engine_loop *own)
{
    if (own->loop && loop_index(own->loop) == 0)
        dropbox_stop(&own->engine->dropbox);
}
