//! The names of the settings that the code refers to.

/// The prefix of our own names. `PORT`, `JWT_SECRET`, `LOG_LEVEL` and `LOG_FORMAT` are shared with other programs.
pub(super) const PREFIX: &str = "POSTERN_";

pub(super) const PORT: &str = "PORT";
pub(super) const LISTEN: &str = "POSTERN_LISTEN";
pub(super) const LISTEN_MODE: &str = "POSTERN_LISTEN_MODE";
pub(super) const LISTEN_OWNER: &str = "POSTERN_LISTEN_OWNER";
pub(super) const PATH: &str = "POSTERN_PATH";
pub(super) const HEALTH_PATH: &str = "POSTERN_HEALTH_PATH";
pub(super) const SUBPROTOCOLS: &str = "POSTERN_SUBPROTOCOLS";
pub(super) const WORKERS: &str = "POSTERN_WORKERS";

pub(super) const APP: &str = "POSTERN_APP";
pub(super) const CHANNELS_PATH: &str = "POSTERN_CHANNELS_PATH";
pub(super) const CHANNELS_UNI_PATH: &str = "POSTERN_CHANNELS_UNI_PATH";
pub(super) const CHANNELS_FILE: &str = "POSTERN_CHANNELS_FILE";
pub(super) const PERSONAL_CHANNEL: &str = "POSTERN_PERSONAL_CHANNEL";
pub(super) const SHARE_EMAIL: &str = "POSTERN_SHARE_EMAIL";
pub(super) const JWT_SECRET: &str = "JWT_SECRET";
pub(super) const TOKEN_JWKS: &str = "POSTERN_TOKEN_JWKS";
pub(super) const TOKEN_JWKS_INSECURE: &str = "POSTERN_TOKEN_JWKS_INSECURE";
pub(super) const TOKEN_ISSUER: &str = "POSTERN_TOKEN_ISSUER";
pub(super) const TOKEN_AUDIENCE: &str = "POSTERN_TOKEN_AUDIENCE";
pub(super) const AUTH_URL: &str = "POSTERN_AUTH_URL";
pub(super) const AUTH_CACHE: &str = "POSTERN_AUTH_CACHE";
pub(super) const IN_BAND_AUTH: &str = "POSTERN_IN_BAND_AUTH";
pub(super) const FIRST_MESSAGE_PATH: &str = "POSTERN_FIRST_MESSAGE_PATH";
pub(super) const REVALIDATE: &str = "POSTERN_REVALIDATE";
pub(super) const EXPIRY_GRACE: &str = "POSTERN_EXPIRY_GRACE";
pub(super) const EXPIRY_SPREAD: &str = "POSTERN_EXPIRY_SPREAD";
pub(super) const MAX_CHANNELS: &str = "POSTERN_MAX_CHANNELS";
pub(super) const HISTORY_MEMORY: &str = "POSTERN_HISTORY_MEMORY";

pub(super) const AMQP_URL: &str = "POSTERN_AMQP_URL";
pub(super) const AMQP_URL_FILE: &str = "POSTERN_AMQP_URL_FILE";
pub(super) const AMQP_CA_FILE: &str = "POSTERN_AMQP_CA_FILE";
pub(super) const AMQP_CERT_FILE: &str = "POSTERN_AMQP_CERT_FILE";
pub(super) const AMQP_KEY_FILE: &str = "POSTERN_AMQP_KEY_FILE";
pub(super) const AMQP_MODE: &str = "POSTERN_AMQP_MODE";
pub(super) const AMQP_EXCHANGE: &str = "POSTERN_AMQP_EXCHANGE";
pub(super) const AMQP_QUEUE: &str = "POSTERN_AMQP_QUEUE";
pub(super) const AMQP_PREFETCH: &str = "POSTERN_AMQP_PREFETCH";
pub(super) const AMQP_DEAD_LETTER: &str = "POSTERN_AMQP_DEAD_LETTER";
pub(super) const NATS_URL: &str = "POSTERN_NATS_URL";
pub(super) const NATS_URL_FILE: &str = "POSTERN_NATS_URL_FILE";
pub(super) const NATS_CA_FILE: &str = "POSTERN_NATS_CA_FILE";
pub(super) const NATS_CERT_FILE: &str = "POSTERN_NATS_CERT_FILE";
pub(super) const NATS_KEY_FILE: &str = "POSTERN_NATS_KEY_FILE";
pub(super) const NATS_SUBJECT: &str = "POSTERN_NATS_SUBJECT";
pub(super) const NATS_MODE: &str = "POSTERN_NATS_MODE";
pub(super) const NATS_QUEUE: &str = "POSTERN_NATS_QUEUE";

pub(super) const ENGINE: &str = "POSTERN_ENGINE";
pub(super) const ENGINE_DOWN: &str = "POSTERN_ENGINE_DOWN";
pub(super) const ENGINE_REQUIRED: &str = "POSTERN_ENGINE_REQUIRED";
pub(super) const REDIS_URL: &str = "POSTERN_REDIS_URL";
pub(super) const REDIS_PASSWORD: &str = "POSTERN_REDIS_PASSWORD";
pub(super) const REDIS_PASSWORD_FILE: &str = "POSTERN_REDIS_PASSWORD_FILE";
pub(super) const REDIS_SENTINEL_PASSWORD: &str = "POSTERN_REDIS_SENTINEL_PASSWORD";
pub(super) const REDIS_SENTINEL_PASSWORD_FILE: &str = "POSTERN_REDIS_SENTINEL_PASSWORD_FILE";
pub(super) const REDIS_CA_FILE: &str = "POSTERN_REDIS_CA_FILE";
pub(super) const REDIS_CERT_FILE: &str = "POSTERN_REDIS_CERT_FILE";
pub(super) const REDIS_KEY_FILE: &str = "POSTERN_REDIS_KEY_FILE";
pub(super) const REDIS_PREFIX: &str = "POSTERN_REDIS_PREFIX";
pub(super) const REDIS_TIMEOUT: &str = "POSTERN_REDIS_TIMEOUT";
pub(super) const REDIS_PROBE: &str = "POSTERN_REDIS_PROBE";
pub(super) const REDIS_QUEUE: &str = "POSTERN_REDIS_QUEUE";
pub(super) const REDIS_FAILOVER: &str = "POSTERN_REDIS_FAILOVER";
pub(super) const POSITION_CHECK: &str = "POSTERN_POSITION_CHECK";
pub(super) const RECOVER_RATE: &str = "POSTERN_RECOVER_RATE";

pub(super) const HOOK_URL: &str = "POSTERN_HOOK_URL";
pub(super) const HOOK_CONCURRENCY: &str = "POSTERN_HOOK_CONCURRENCY";
pub(super) const HOOK_TIMEOUT: &str = "POSTERN_HOOK_TIMEOUT";
pub(super) const HOOK_SECRET_FILE: &str = "POSTERN_HOOK_SECRET_FILE";
pub(super) const HOOK_SECRET: &str = "POSTERN_HOOK_SECRET";

pub(super) const IDENTITY: &str = "POSTERN_IDENTITY";
pub(super) const USER_ID: &str = "POSTERN_USER_ID_HEADER";
pub(super) const USER_EMAIL: &str = "POSTERN_USER_EMAIL_HEADER";
pub(super) const USER_NAME: &str = "POSTERN_USER_NAME_HEADER";
pub(super) const USER_SESSION_ID: &str = "POSTERN_USER_SESSION_ID_HEADER";
pub(super) const TOKEN_EXP: &str = "POSTERN_USER_TOKEN_EXP_HEADER";
pub(super) const TOKEN_ISSUED_AT: &str = "POSTERN_USER_TOKEN_ISSUED_AT_HEADER";
pub(super) const TOKEN_ID: &str = "POSTERN_USER_TOKEN_ID_HEADER";
pub(super) const USER_CHANNELS: &str = "POSTERN_USER_CHANNELS_HEADER";

/// The preset of the signed identity. The names of its other settings begin with it.
pub(super) const ASSERTION: &str = "POSTERN_ASSERTION";
pub(super) const ASSERTION_HEADER: &str = "POSTERN_ASSERTION_HEADER";
pub(super) const ASSERTION_ISSUER: &str = "POSTERN_ASSERTION_ISSUER";
pub(super) const ASSERTION_AUDIENCE: &str = "POSTERN_ASSERTION_AUDIENCE";
pub(super) const ASSERTION_JWKS: &str = "POSTERN_ASSERTION_JWKS";
pub(super) const ASSERTION_JWKS_INSECURE: &str = "POSTERN_ASSERTION_JWKS_INSECURE";
pub(super) const ASSERTION_ID_CLAIM: &str = "POSTERN_ASSERTION_ID_CLAIM";
pub(super) const ASSERTION_EMAIL_CLAIM: &str = "POSTERN_ASSERTION_EMAIL_CLAIM";
pub(super) const ASSERTION_NAME_CLAIM: &str = "POSTERN_ASSERTION_NAME_CLAIM";
pub(super) const ASSERTION_EXPIRY: &str = "POSTERN_ASSERTION_EXPIRY";

pub(super) const TRUSTED_PROXIES: &str = "POSTERN_TRUSTED_PROXIES";
pub(super) const SECRET: &str = "POSTERN_PROXY_SECRET";
pub(super) const SECRET_FILE: &str = "POSTERN_PROXY_SECRET_FILE";
pub(super) const SECRET_HEADER: &str = "POSTERN_PROXY_SECRET_HEADER";
pub(super) const ALLOWED_ORIGINS: &str = "POSTERN_ALLOWED_ORIGINS";
pub(super) const HOST_HEADER: &str = "POSTERN_HOST_HEADER";

pub(super) const MAX_CONNECTIONS: &str = "POSTERN_MAX_CONNECTIONS";
pub(super) const MAX_CONNECTIONS_PER_USER: &str = "POSTERN_MAX_CONNECTIONS_PER_USER";
pub(super) const USER_POLICY: &str = "POSTERN_USER_POLICY";
pub(super) const MESSAGE_RATE: &str = "POSTERN_MESSAGE_RATE";
pub(super) const MESSAGE_BURST: &str = "POSTERN_MESSAGE_BURST";
pub(super) const BYTE_RATE: &str = "POSTERN_BYTE_RATE";
pub(super) const RATE_POLICY: &str = "POSTERN_RATE_POLICY";
pub(super) const MAX_MESSAGE: &str = "POSTERN_MAX_MESSAGE";
pub(super) const MAX_FRAME: &str = "POSTERN_MAX_FRAME";
pub(super) const MAX_FRAGMENTS: &str = "POSTERN_MAX_FRAGMENTS";
pub(super) const COMPRESSION: &str = "POSTERN_COMPRESSION";
pub(super) const COMPRESSION_MIN: &str = "POSTERN_COMPRESSION_MIN";
pub(super) const MAX_BACKLOG: &str = "POSTERN_MAX_BACKLOG";
pub(super) const MAX_MEMORY: &str = "POSTERN_MAX_MEMORY";
pub(super) const MAX_HANDSHAKES: &str = "POSTERN_MAX_HANDSHAKES";

pub(super) const PING_INTERVAL: &str = "POSTERN_PING_INTERVAL";
pub(super) const PONG_TIMEOUT: &str = "POSTERN_PONG_TIMEOUT";

pub(super) const LOG_LEVEL: &str = "LOG_LEVEL";
pub(super) const LOG_MESSAGES: &str = "POSTERN_LOG_MESSAGES";
pub(super) const LOG_QUEUE: &str = "POSTERN_LOG_QUEUE";

pub(super) const CONTROL: &str = "POSTERN_CONTROL";
pub(super) const API_KEY: &str = "POSTERN_API_KEY";
pub(super) const API_KEY_FILE: &str = "POSTERN_API_KEY_FILE";
pub(super) const CONSOLE: &str = "POSTERN_CONSOLE";

pub(super) const DRAIN_GRACE: &str = "POSTERN_DRAIN_GRACE";
pub(super) const DRAIN_SPREAD: &str = "POSTERN_DRAIN_SPREAD";
pub(super) const DRAIN_HARD: &str = "POSTERN_DRAIN_HARD";
