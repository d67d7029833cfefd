//! Sources: message brokers whose messages are published.

use crate::settings::amqp;
use crate::settings::feature::Feature;
use crate::settings::names::*;
use crate::settings::nats;
use crate::settings::setting::{Setting, text};
use crate::settings::source;
use crate::settings::value::is_off;
use crate::source::{DEAD_LETTER, EXCHANGE, PREFETCH, QUEUE, QUEUE_GROUP, SUBJECT};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        text(
            AMQP_URL,
            "URL",
            "",
            |_, text| amqp::check_url(text),
            "The RabbitMQ whose messages are published:\n\
             amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps: with TLS. Without\n\
             it none are. Not as a flag: flags are visible to other users of\n\
             the host",
        )
        .secret()
        .needs(Feature::Amqp, ""),
        text(
            AMQP_URL_FILE,
            "FILE",
            "",
            |_, text| amqp::check_file(text),
            "The file that has this URL. It is read for each connection",
        )
        .needs(Feature::Amqp, ""),
        text(
            AMQP_CA_FILE,
            "FILE",
            "",
            |_, _| Ok(()),
            "Certificates of authorities in PEM format, which are trusted for\n\
             RabbitMQ in addition to those of the system",
        )
        .needs(Feature::Amqp, ""),
        text(
            AMQP_CERT_FILE,
            "FILE",
            "",
            |_, _| Ok(()),
            "The certificate of Postern in PEM format, if RabbitMQ asks for one\n\
             (fail_if_no_peer_cert)",
        )
        .needs(Feature::Amqp, ""),
        text(AMQP_KEY_FILE, "FILE", "", |_, _| Ok(()), "The private key of this certificate in PEM format")
            .needs(Feature::Amqp, ""),
        text(
            AMQP_MODE,
            "shared|each",
            "shared",
            |_, text| source::check_mode(text),
            "How several nodes share the messages. shared: one node gets all,\n\
             and a queue keeps them while there is none. each: every node gets\n\
             all messages that are sent while it is connected",
        )
        .needs(Feature::Amqp, "shared"),
        text(
            AMQP_EXCHANGE,
            "NAME",
            EXCHANGE,
            |_, text| amqp::check_name(text),
            "The topic exchange that backends publish to, with the routing key\n\
             channel.NAME or user.ID",
        )
        .needs(Feature::Amqp, EXCHANGE),
        text(
            AMQP_QUEUE,
            "NAME",
            QUEUE,
            |_, text| amqp::check_name(text),
            "The queue; with POSTERN_AMQP_MODE=each the beginning of the names\n\
             of the queues of the nodes",
        )
        .needs(Feature::Amqp, QUEUE),
        text(
            AMQP_PREFETCH,
            "N",
            PREFETCH,
            |_, text| amqp::check_prefetch(text),
            "The most messages that are received and not acknowledged. They are\n\
             in memory, each with up to max_message_size of the broker",
        )
        .needs(Feature::Amqp, PREFETCH),
        text(
            AMQP_DEAD_LETTER,
            "NAME",
            DEAD_LETTER,
            |_, text| if is_off(text) { Ok(()) } else { amqp::check_name(text) },
            "The exchange and the queue of messages that can never be\n\
             published, with POSTERN_AMQP_MODE=shared. off loses them",
        )
        .needs(Feature::Amqp, DEAD_LETTER),
        text(
            NATS_URL,
            "URL",
            "",
            |_, text| nats::check_url(text),
            "The NATS whose messages are published:\n\
             nats://USER:PASSWORD@HOST:PORT or nats://TOKEN@HOST, or tls: with\n\
             TLS. Without it none are. Not as a flag: flags are visible to\n\
             other users of the host",
        )
        .secret()
        .needs(Feature::Nats, ""),
        text(
            NATS_URL_FILE,
            "FILE",
            "",
            |_, text| nats::check_file(text),
            "The file that has this URL. It is read for each connection",
        )
        .needs(Feature::Nats, ""),
        text(
            NATS_CA_FILE,
            "FILE",
            "",
            |_, _| Ok(()),
            "Certificates of authorities in PEM format, which are trusted for\n\
             NATS in addition to those of the system",
        )
        .needs(Feature::Nats, ""),
        text(
            NATS_CERT_FILE,
            "FILE",
            "",
            |_, _| Ok(()),
            "The certificate of Postern in PEM format, if NATS asks for one\n\
             (verify)",
        )
        .needs(Feature::Nats, ""),
        text(NATS_KEY_FILE, "FILE", "", |_, _| Ok(()), "The private key of this certificate in PEM format")
            .needs(Feature::Nats, ""),
        text(
            NATS_SUBJECT,
            "SUBJECT",
            SUBJECT,
            |_, text| nats::check_subject(text),
            "The beginning of the subjects that backends publish to:\n\
             SUBJECT.channel.NAME and SUBJECT.user.ID",
        )
        .needs(Feature::Nats, SUBJECT),
        text(
            NATS_MODE,
            "shared|each",
            "shared",
            |_, text| source::check_mode(text),
            "How several nodes share the messages. shared: one node gets each\n\
             message. each: every node gets all messages",
        )
        .needs(Feature::Nats, "shared"),
        text(
            NATS_QUEUE,
            "NAME",
            QUEUE_GROUP,
            |_, text| nats::check_queue(text),
            "The queue group of the nodes with POSTERN_NATS_MODE=shared",
        )
        .needs(Feature::Nats, QUEUE_GROUP),
    ]
}
