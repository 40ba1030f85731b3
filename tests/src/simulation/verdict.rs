//! What is judged now and then, and at the end of a run.

use object_store::ObjectStoreExt;

use super::house::House;
use super::panics;

/// Looks at what takes time. Whether a promise was broken.
pub(super) fn of_a_tick(house: &House) -> bool {
    if let Some(panic) = panics::take() {
        house.truth.accuse(format!("a panic: {panic}"), Vec::new());
    }
    house.truth.check_owed();
    for node in &house.nodes {
        if let Some(present) = node.present() {
            house.truth.holds(node.id.as_str(), node.slots, present.agent.held());
        }
    }
    house.truth.violation().is_some()
}

/// Whether everything that was asked for has been accepted and has ended, and nothing more will come.
pub(super) fn is_over(house: &House) -> bool {
    let truth = &house.truth;
    truth.journal.elapsed() > house.plan.calm_at
        && truth.are_all_accepted()
        && truth.open().is_empty()
        && house.nodes.iter().all(|node| node.present().is_some_and(|present| present.agent.held() == 0))
}

/// It did not end in time.
pub(super) fn of_the_stuck(house: &House) {
    let open = house.truth.open();
    let held: Vec<String> = house
        .nodes
        .iter()
        .filter_map(|node| Some(format!("{} holds {}", node.id, node.present()?.agent.held())))
        .collect();
    let shown: Vec<String> = open.iter().take(5).map(|(task, state)| format!("{task} is {state}")).collect();
    let what = format!("{} tasks have not ended: {}; {}", open.len(), shown.join(", "), held.join(", "));
    let mut about: Vec<String> = open.iter().take(2).map(|(task, _)| task.to_string()).collect();
    about.push("fault".to_owned());
    house.truth.accuse(what, about);
}

/// Everything has ended: as it should?
pub(super) async fn of_the_end(house: &House) {
    for job in house.truth.jobs() {
        match house.store.job(job).await {
            Ok(row) => house.truth.judge_job(&row),
            Err(error) => house.truth.accuse(format!("{job} is gone: {error}"), vec![job.to_string()]),
        }
    }
    for (task, key) in house.truth.winning_objects() {
        let found = house.objects.head(&key.as_str().into()).await;
        if let Err(error) = found {
            house
                .truth
                .accuse(format!("the output {key} of {task} is gone: {error}"), vec![task.to_string()]);
        }
    }
}
