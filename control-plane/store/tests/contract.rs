//! What every store has to do, tried on SQLite in memory, SQLite in a file, and PostgreSQL where
//! `SPRINGTIDE_TEST_POSTGRES_URL` names a server (each test gets a schema of its own there).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

mod contract {
    pub(crate) mod admin;
    pub(crate) mod apply;
    pub(crate) mod cancel;
    mod durability;
    pub(crate) mod exclusive;
    pub(crate) mod invariants;
    pub(crate) mod nodes;
    pub(crate) mod places;
    pub(crate) mod random;
    pub(crate) mod read;
    pub(crate) mod reconcile;
    pub(crate) mod release;
    mod replicas;
    pub(crate) mod submit;
    pub(crate) mod world;
}

/// Makes a test of each case on each database.
macro_rules! on_each_database {
    ($($group:ident { $($case:ident),* $(,)? })*) => {
        on_each_database! { in_memory Memory $($group { $($case)* })* }
        on_each_database! { on_disk Disk $($group { $($case)* })* }
        on_each_database! { postgres Postgres $($group { $($case)* })* }
    };
    ($module:ident $place:ident $($group:ident { $($case:ident)* })*) => {
        mod $module {
            $(mod $group {
                $(
                    #[tokio::test]
                    async fn $case() {
                        crate::contract::places::$place::run(crate::contract::$group::$case).await;
                    }
                )*
            })*
        }
    };
}

on_each_database! {
    submit {
        a_job_is_kept_as_it_was_posted,
        a_key_names_one_job,
        of_racing_posts_with_one_key_one_wins,
        first_tasks_are_released_in_the_same_commit,
        nothing_is_released_past_what_waits,
        a_retry_has_the_inputs_of_its_source,
        long_lists_of_inputs_come_back_in_order,
        one_that_fails_leaves_its_neighbours_alone,
    }
    release {
        goes_by_rank,
        fills_each_priority_to_its_limit,
        takes_no_more_than_was_asked_for,
        picks_the_smallest_lane_with_room,
        any_device_goes_where_there_is_room,
        a_full_lane_does_not_hold_up_another,
        suspects_run_alone_one_in_each_lane,
        each_lane_has_a_suspect_of_its_own,
        a_charged_task_waits_its_delay_out,
        an_evicted_task_is_at_the_front,
        is_fenced,
    }
    apply {
        a_task_runs_and_its_job_follows,
        a_success_alone_is_enough,
        the_first_success_wins,
        stale_and_unknown_events_change_nothing,
        a_task_fails_after_its_retries,
        a_job_says_how_often_it_is_tried,
        bad_input_fails_at_once,
        a_checkpoint_goes_along_and_is_discarded,
        absurd_values_hold_nothing_up,
    }
    cancel { of_all_states_at_once, twice_is_once, never_released_tasks_show_as_cancelled }
    reconcile { lost_tasks_wait_again, a_lost_publication_gets_a_new_attempt }
    exclusive {
        one_task_at_a_time,
        without_a_claim_nothing_goes_and_room_is_kept,
        a_key_outlives_the_task_that_may_still_run,
        what_is_in_flight_keeps_its_key,
        only_the_current_attempt_may_succeed,
        another_programs_key_is_not_wanted,
        a_guard_of_keys,
    }
    read {
        jobs_come_newest_first_in_pages,
        tasks_come_by_index_in_pages,
        a_retry_of_a_retry_names_the_original,
        the_backlog_sums_sizes_and_knows_the_oldest,
        arrivals_only_grow,
        what_is_due_is_what_does_not_run_yet,
    }
    nodes {
        a_node_is_heard_drained_and_retired,
        last_words_of_an_earlier_start_count_for_nothing,
        who_does_not_lead_sees_no_nodes,
    }
    admin {
        a_lease_has_one_holder_and_a_growing_token,
        of_many_that_want_a_lease_one_gets_it,
        a_version_of_a_model_never_changes,
        tokens_come_and_go,
        a_launch_keeps_its_request,
        forecasts_are_overwritten,
        writes_go_through,
    }
    random { operations_keep_the_books }
}
