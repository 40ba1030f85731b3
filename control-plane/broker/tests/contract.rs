//! What both adapters promise, each promise once, held against every broker that there is: the one in memory, RabbitMQ
//! 3.10 (`SPRINGTIDE_TEST_AMQP_URL`) and RabbitMQ 4 (`SPRINGTIDE_TEST_AMQP4_URL`), both with the `rabbitmqctl` that
//! `cargo xtask services` names. A broker that is not there is skipped with a line that says so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

mod bench;
mod contract {
    pub mod connections;
    pub mod events;
    pub mod tasks;
}

/// A promise for each kind of broker. In memory time is tokio's paused clock, which jumps to the next timer when
/// nothing else is left to do.
macro_rules! promises {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                crate::contract::$module::$name(&crate::bench::Bench::memory()).await;
            })*
        }
        mod rabbitmq_3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(bench) = crate::bench::Bench::rabbitmq_3().await {
                    crate::contract::$module::$name(&bench).await;
                }
            })*
        }
        mod rabbitmq_4 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(bench) = crate::bench::Bench::rabbitmq_4().await {
                    crate::contract::$module::$name(&bench).await;
                }
            })*
        }
    };
}

promises! {
    tasks::what_is_published_comes_once_and_is_acked,
    tasks::the_higher_priority_comes_first,
    tasks::no_more_than_the_prefetch_is_unacked,
    tasks::the_best_consumer_is_filled_first,
    tasks::an_expired_task_never_comes,
    tasks::what_was_not_acked_comes_again,
    tasks::a_cancelled_consumer_keeps_what_it_holds,
    tasks::deliveries_outlive_a_cancelled_consumer,
    tasks::a_large_batch_passes_a_small_window_in_order,
    tasks::an_unreadable_task_is_kept_and_consuming_goes_on,
    events::come_in_order_and_are_acked_together,
    events::one_consumer_gets_them_and_the_next_takes_over,
    events::an_unreadable_one_is_kept_before_what_follows_is_handed_on,
    events::a_heartbeat_reaches_every_subscriber,
    events::a_desired_state_reaches_its_node_only,
    events::two_incarnations_of_a_node_both_hear,
    connections::the_prefetch_holds_after_a_lost_connection,
    connections::nothing_confirmed_is_lost_when_connections_are,
    connections::subscriptions_come_back,
    connections::without_a_broker_calls_end_in_time_and_say_what_for,
    connections::a_broker_that_comes_late_is_waited_for,
    connections::closing_writes_the_last_acks,
}
