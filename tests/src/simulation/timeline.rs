//! Lets the planned faults happen, and starts again what has died.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::dice::Dice;
use super::house::{House, Part};
use super::plan::{Fault, Timed};
use super::user;
use super::weather::Trouble;

/// Starts again what has died, a while after.
pub async fn revive(house: Arc<House>, mut died: mpsc::Receiver<Part>) {
    let dice = Dice::new(house.plan.seed, 10);
    while let Some(part) = died.recv().await {
        match part {
            Part::Node(index) => house.clear_node(index),
            Part::Control(index) => house.clear_control(index),
        }
        let calm = house.truth.journal.elapsed() >= house.plan.calm_at;
        let down = if calm { dice.millis(100, 2_000) } else { dice.millis(50, 30_000) };
        let house = Arc::clone(&house);
        tokio::spawn(async move {
            sleep(down).await;
            match part {
                Part::Node(index) => house.start_node(index),
                Part::Control(index) => house.start_control(index),
            }
        });
    }
}

/// Lets the planned faults happen, then ends them all.
pub async fn play(house: Arc<House>) {
    let began = Instant::now();
    for Timed { at, yields, fault } in house.plan.faults.clone() {
        sleep_until(began + at).await;
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        happen(&house, fault);
    }
    sleep_until(began + house.plan.calm_at).await;
    house.calm();
    let correct = Dice::new(house.plan.seed, 11);
    for node in house.nodes.iter().filter(|_| correct.hits(0.5)) {
        node.clock.correct();
    }
    for control in house.controls.iter().filter(|_| correct.hits(0.5)) {
        control.clock.correct();
    }
    for node in &house.nodes {
        tokio::spawn(user::undrain(Arc::clone(&house), node.id.to_string()));
    }
}

/// Ends something after a while.
fn after(span: Duration, end: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        sleep(span).await;
        end();
    });
}

fn trouble(house: &Arc<House>, trouble: Trouble, span: Duration) {
    house.truth.fault(format!("{trouble:?} for {span:?}"));
    house.weather.begin(trouble);
    if trouble == Trouble::ObjectsFail {
        house.truth.objects_fail();
    }
    let house = Arc::clone(house);
    after(span, move || {
        house.truth.fault(format!("{trouble:?} is over"));
        house.weather.end(trouble);
    });
}

fn happen(house: &Arc<House>, fault: Fault) {
    house.truth.journal.note(format!("planned: {fault:?}"));
    match fault {
        Fault::AgentDies { .. }
        | Fault::AgentDiesAfter { .. }
        | Fault::AgentStops { .. }
        | Fault::AgentStandsStill { .. }
        | Fault::AgentCut { .. }
        | Fault::WorkerKilled { .. }
        | Fault::WorkerHangs { .. }
        | Fault::NodeClockJumps { .. }
        | Fault::Drained { .. } => to_node(house, fault),
        Fault::ControlDies { .. }
        | Fault::ControlDiesAfter { .. }
        | Fault::ControlStops { .. }
        | Fault::ControlStandsStill { .. }
        | Fault::ControlCut { .. }
        | Fault::StoreCut { .. }
        | Fault::ControlClockJumps { .. } => to_control(house, fault),
        Fault::BrokerRestarts { how, outage } => {
            house.truth.fault(format!("the broker goes down, {how:?}"));
            house.memory.restart(how, outage);
        }
        Fault::BrokerBlocked { span } => {
            house.truth.fault("the broker takes nothing");
            house.memory.block("low on disk");
            let house = Arc::clone(house);
            after(span, move || house.memory.unblock());
        }
        Fault::StoreFull { span } => trouble(house, Trouble::StoreFull, span),
        Fault::StoreFlaky { span } => trouble(house, Trouble::StoreFlaky, span),
        Fault::StoreSlow { span } => trouble(house, Trouble::StoreSlow, span),
        Fault::ObjectsFail { span } => trouble(house, Trouble::ObjectsFail, span),
        Fault::Storm { span } => trouble(house, Trouble::Storm, span),
    }
}

fn to_node(house: &Arc<House>, fault: Fault) {
    match fault {
        Fault::AgentStops { node } => return house.stop_node(node),
        Fault::AgentStandsStill { node, span } => return house.still_node(node, span),
        Fault::NodeClockJumps { node, by_ms } => return house.nodes[node].clock.jump(by_ms),
        Fault::Drained { node, deadline_s, span } => {
            let id = house.nodes[node].id.to_string();
            tokio::spawn(user::drain(Arc::clone(house), id, deadline_s, span));
            return;
        }
        _ => {}
    }
    let (Fault::AgentDies { node }
    | Fault::AgentDiesAfter { node, .. }
    | Fault::AgentCut { node, .. }
    | Fault::WorkerKilled { node }
    | Fault::WorkerHangs { node, .. }) = fault
    else {
        return;
    };
    let Some(present) = house.nodes[node].present() else { return };
    let id = house.nodes[node].id.to_string();
    match fault {
        Fault::AgentDies { .. } => present.life.die(),
        Fault::AgentDiesAfter { calls, .. } => present.life.die_after(calls),
        Fault::AgentCut { span, .. } => {
            house.truth.fault(format!("{id} is cut off for {span:?}"));
            house.memory.cut(present.client, Some(span));
            let house = Arc::clone(house);
            after(span, move || house.truth.fault(format!("{id} is back")));
        }
        Fault::WorkerKilled { .. } => {
            house.truth.fault(format!("the worker of {id} is killed"));
            present.hands.kill();
        }
        Fault::WorkerHangs { span, .. } => {
            house.truth.hangs(id.as_str(), span);
            present.hands.freeze(true);
            after(span, move || present.hands.freeze(false));
        }
        _ => {}
    }
}

fn to_control(house: &Arc<House>, fault: Fault) {
    match fault {
        Fault::ControlStops { control } => return house.stop_control(control),
        Fault::ControlStandsStill { control, span } => return house.still_control(control, span),
        Fault::ControlClockJumps { control, by_ms } => {
            house.truth.fault(format!("the clock of control plane {control} jumps by {by_ms} ms"));
            return house.controls[control].clock.jump(by_ms);
        }
        _ => {}
    }
    let (Fault::ControlDies { control }
    | Fault::ControlDiesAfter { control, .. }
    | Fault::ControlCut { control, .. }
    | Fault::StoreCut { control, .. }) = fault
    else {
        return;
    };
    let Some(present) = house.controls[control].present() else { return };
    match fault {
        Fault::ControlDies { .. } => present.life.die(),
        Fault::ControlDiesAfter { calls, .. } => present.life.die_after(calls),
        Fault::ControlCut { span, .. } => {
            house.truth.fault(format!("control plane {control} is cut off for {span:?}"));
            house.memory.cut(present.client, Some(span));
        }
        Fault::StoreCut { span, .. } => {
            house.truth.fault(format!("control plane {control} can't reach the store for {span:?}"));
            present.life.cut_store(true);
            after(span, move || present.life.cut_store(false));
        }
        _ => {}
    }
}
