//! The task queue and the event bus: RabbitMQ and in-memory adapters.
