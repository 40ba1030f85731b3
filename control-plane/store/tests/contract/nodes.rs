//! Nodes.

use std::time::Duration;

use springtide_core::node::{NodeEvent, NodeState};
use springtide_core::{Incarnation, NodeId, Timestamp};
use springtide_store::Error;
use springtide_store::port::{Fence, NodeRow, NodeSighting};

use super::world::{World, cpu};

fn sighting(name: &str, start: u128) -> NodeSighting {
    NodeSighting {
        id: name.parse().unwrap(),
        incarnation: Incarnation::new(Timestamp::from_micros(1_000_000), start),
        lane: cpu(),
        pool: None,
        slots: 2,
        empty: false,
        leaving: false,
    }
}

async fn sight(world: &World, fence: &Fence, seen: NodeSighting) -> NodeRow {
    let rows = world.store.sight_nodes(fence, &[seen], world.now()).await.unwrap();
    assert_eq!(rows.len(), 1);
    rows.into_iter().next().unwrap()
}

pub(crate) async fn a_node_is_heard_drained_and_retired(world: World) {
    let fence = world.lead().await;
    let first = sight(&world, &fence, sighting("n", 1)).await;
    assert_eq!((&first.state, first.slots), (&NodeState::Active, 2));
    let again = sight(&world, &fence, sighting("n", 1)).await;
    assert_eq!(again, first, "a heartbeat that says nothing new changes nothing");
    let id: NodeId = "n".parse().unwrap();
    let drain = NodeEvent::Drain { until: world.now(), reason: "test".into() };
    let draining = world.store.change_node(&id, drain.clone(), None, world.now()).await.unwrap();
    assert!(matches!(&draining.state, NodeState::Draining { reason, .. } if reason == "test"));
    let empty = sight(&world, &fence, NodeSighting { empty: true, ..sighting("n", 1) }).await;
    assert_eq!(empty.state, NodeState::Empty { reason: "test".into() }, "the reason stays");
    let unfenced = world.store.change_node(&id, NodeEvent::Retire, None, world.now()).await;
    assert!(matches!(unfenced, Err(Error::Conflict(_))));
    let retiring = world.store.change_node(&id, NodeEvent::Retire, Some(&fence), world.now()).await.unwrap();
    assert_eq!(retiring.state, NodeState::Retiring);
    let refused = world.store.change_node(&id, NodeEvent::Undrain, None, world.now()).await;
    assert!(matches!(refused, Err(Error::Conflict(_))));
    let unknown = world.store.change_node(&"x".parse().unwrap(), drain, None, world.now()).await;
    assert!(matches!(unknown, Err(Error::NotFound { kind: "node", .. })));
}

pub(crate) async fn last_words_of_an_earlier_start_count_for_nothing(world: World) {
    let fence = world.lead().await;
    sight(&world, &fence, sighting("n", 1)).await;
    let restarted = sight(&world, &fence, sighting("n", 2)).await;
    assert_eq!(restarted.incarnation, Some(sighting("n", 2).incarnation));
    let late = sight(&world, &fence, NodeSighting { leaving: true, ..sighting("n", 1) }).await;
    assert_eq!(late, restarted);
    let gone = sight(&world, &fence, NodeSighting { leaving: true, ..sighting("n", 2) }).await;
    assert_eq!(gone.state, NodeState::Gone);
    assert_eq!(world.store.nodes(gone.changed_at).await.unwrap().len(), 1);
    assert!(world.store.nodes(gone.changed_at + Duration::from_secs(1)).await.unwrap().is_empty());
    assert_eq!(sight(&world, &fence, sighting("n", 3)).await.state, NodeState::Active);
}

pub(crate) async fn who_does_not_lead_sees_no_nodes(world: World) {
    let old = world.lead().await;
    world.lead_as("second").await;
    let refused = world.store.sight_nodes(&old, &[sighting("n", 1)], world.now()).await;
    assert!(matches!(refused, Err(Error::Fenced { .. })));
    assert!(world.store.nodes(Timestamp::default()).await.unwrap().is_empty());
}
