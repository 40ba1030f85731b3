//! Why a job may still be queued.

use serde_json::Value;
use springtide_client::Client;
use springtide_core::api::NodeView;

/// What the broker or the nodes say, if it can't be reached or none of them takes tasks. `None` also where that can't be
/// asked: it is a hint, no more.
pub async fn why_it_waits(client: &Client) -> Option<String> {
    let ready = client.ready().await.ok()?;
    if let Some(reason) = broker(&ready) {
        return Some(reason);
    }
    let page = client.nodes(None).await.ok()?;
    let nodes = if page.next_cursor.is_some() { None } else { reasons(&page.items) };
    nodes.or_else(|| locks(&ready))
}

/// Which jobs are exclusive is not asked: that the guard of their keys is down is worth telling.
fn locks(ready: &Value) -> Option<String> {
    let locks = ready.get("locks")?;
    if locks.get("state")? == "up" {
        None
    } else {
        Some(format!("if it is exclusive it waits: {}", locks.get("detail")?.as_str()?))
    }
}

fn broker(ready: &Value) -> Option<String> {
    let broker = ready.get("broker")?;
    if broker.get("state")? == "up" {
        None
    } else {
        Some(format!("it waits: {}", broker.get("detail")?.as_str()?))
    }
}

fn reasons(nodes: &[NodeView]) -> Option<String> {
    if nodes.is_empty() {
        return Some(
            "it waits: there is no node; `springtide up` or springtide-node-agent starts one".to_owned(),
        );
    }
    if nodes.iter().any(|node| node.state == "active" && node.reason.is_none()) {
        return None;
    }
    let one = |node: &NodeView| match &node.reason {
        Some(reason) => format!("{} is {} ({reason})", node.id, node.state),
        None => format!("{} is {}", node.id, node.state),
    };
    let said: Vec<String> = nodes.iter().take(5).map(one).collect();
    Some(format!("it waits: no node takes tasks now; {}", said.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(state: &str, reason: Option<&str>) -> NodeView {
        serde_json::from_value(json!({
            "id": "n-1", "state": state, "reason": reason, "lane": "cpu", "consuming": "cpu", "pool": null, "slots": 2,
            "heard_at": null, "runs": [], "held": 0, "models": [], "cpu": 0.5, "devices": [], "version": "0.1.0"
        }))
        .unwrap()
    }

    #[test]
    fn a_broker_that_is_down_is_the_reason() {
        let ready =
            |state| json!({"ready": true, "broker": {"state": state, "detail": "waiting for the broker"}});
        assert_eq!(broker(&ready("up")), None);
        assert_eq!(broker(&ready("down")).unwrap(), "it waits: waiting for the broker");
    }

    #[test]
    fn a_guard_of_keys_that_is_down_is_told() {
        let ready = |state| json!({"ready": true, "locks": {"state": state, "detail": "no answer"}});
        assert_eq!(locks(&ready("up")), None);
        assert_eq!(locks(&ready("down")).unwrap(), "if it is exclusive it waits: no answer");
    }

    #[test]
    fn a_node_that_takes_tasks_needs_no_explanation() {
        assert_eq!(reasons(&[node("draining", None), node("active", None)]), None);
        assert!(reasons(&[]).unwrap().contains("there is no node"));
        let paused =
            reasons(&[node("active", Some("others use 84 % of the CPU")), node("lost", None)]).unwrap();
        assert_eq!(
            paused,
            "it waits: no node takes tasks now; n-1 is active (others use 84 % of the CPU), n-1 is lost"
        );
    }
}
