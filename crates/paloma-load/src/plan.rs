//! Scenarios: who publishes what to whom.

use std::ops::Range;

use crate::error::LoadError;

/// A shape of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each publisher has a topic and a subscriber of its own.
    Pairs {
        /// Publishers, and as many subscribers.
        pairs: u32,
    },
    /// One publisher, one topic, many subscribers.
    FanOut {
        /// Subscribers.
        subscribers: u32,
    },
    /// Many publishers, one topic, one subscriber.
    FanIn {
        /// Publishers.
        publishers: u32,
    },
    /// Many wildcard filters; every message matches exactly three, each of another subscriber.
    Wildcards {
        /// Filters in all.
        filters: u32,
        /// Connections that share them.
        subscribers: u32,
        /// Connections that publish.
        publishers: u32,
    },
    /// Publishers alone, on the load's topic.
    Publishers {
        /// Publishers.
        publishers: u32,
    },
    /// Subscribers alone, to the load's topic: they count what others publish.
    Subscribers {
        /// Subscribers.
        subscribers: u32,
    },
    /// Publishers alone, each with topics of its own: what storing retained messages costs.
    Store {
        /// Topics in all.
        topics: u32,
        /// Connections that publish.
        publishers: u32,
    },
}

/// The connections of one thread of the load.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Flow `n` is what publisher `n` sends.
    pub publishers: Vec<PublisherPlan>,
    /// Receivers of these flows alone.
    pub subscribers: Vec<SubscriberPlan>,
    /// How many subscribers get each message.
    pub deliveries_per_message: u32,
}

/// One publishing connection.
#[derive(Clone, Debug)]
pub struct PublisherPlan {
    /// Topics of equal length, used in turn.
    pub topics: Vec<String>,
}

/// One receiving connection.
#[derive(Clone, Debug)]
pub struct SubscriberPlan {
    /// What it subscribes to.
    pub filters: Vec<String>,
    /// The flows that can reach it.
    pub flows: Range<u32>,
}

/// Filters that one published topic matches in [`Shape::Wildcards`].
const MATCHES: u32 = 3;

impl Shape {
    /// One plan per thread. Only connections that do not share a topic are independent enough to be split; everything else runs
    /// on one thread. In `topic`, which publishers and subscribers alone use, `%i` stands for the connection's number.
    ///
    /// # Errors
    /// If a number is zero or too small for the shape.
    pub fn plans(self, topic: &str, threads: u32) -> Result<Vec<Plan>, LoadError> {
        match self {
            Self::Pairs { pairs } => pair_plans(pairs, threads),
            Self::Publishers { publishers } => alone(publishers, threads, |plan, index| {
                let topics = vec![numbered(topic, index)];
                plan.publishers.push(PublisherPlan { topics });
            }),
            Self::Subscribers { subscribers } => alone(subscribers, threads, |plan, index| {
                plan.subscribers.push(SubscriberPlan {
                    filters: vec![numbered(topic, index)],
                    flows: 0..0,
                });
            }),
            Self::FanOut { subscribers } => {
                one(vec!["load/fan-out".to_owned()], subscribers, subscribers)
            }
            Self::FanIn { publishers } => {
                let topics = vec!["load/fan-in".to_owned(); at_least_one(publishers)?];
                one(topics, 1, 1)
            }
            Self::Wildcards {
                filters,
                subscribers,
                publishers,
            } => wildcard_plan(filters, subscribers, publishers),
            Self::Store { topics, publishers } => store_plan(topics, publishers),
        }
    }
}

fn pair_plans(pairs: u32, threads: u32) -> Result<Vec<Plan>, LoadError> {
    at_least_one(pairs)?;
    let threads = threads.clamp(1, pairs);
    let mut plans: Vec<Plan> = (0..threads)
        .map(|_| Plan {
            deliveries_per_message: 1,
            ..Plan::default()
        })
        .collect();
    for (index, plan) in (0..pairs).zip((0..plans.len()).cycle()) {
        let Some(plan) = plans.get_mut(plan) else {
            break;
        };
        let flow = u32::try_from(plan.publishers.len()).unwrap_or(u32::MAX);
        let name = format!("load/pair/{index:06}");
        plan.publishers.push(PublisherPlan {
            topics: vec![name.clone()],
        });
        plan.subscribers.push(SubscriberPlan {
            filters: vec![name],
            flows: flow..flow + 1,
        });
    }
    Ok(plans)
}

fn one(topics: Vec<String>, subscribers: u32, deliveries: u32) -> Result<Vec<Plan>, LoadError> {
    at_least_one(subscribers)?;
    let flows = 0..u32::try_from(topics.len()).unwrap_or(u32::MAX);
    let filters: Vec<String> = topics.first().cloned().into_iter().collect();
    let publishers = topics
        .into_iter()
        .map(|topic| PublisherPlan {
            topics: vec![topic],
        })
        .collect();
    let subscribers = (0..subscribers).map(|_| SubscriberPlan {
        filters: filters.clone(),
        flows: flows.clone(),
    });
    Ok(vec![Plan {
        publishers,
        subscribers: subscribers.collect(),
        deliveries_per_message: deliveries,
    }])
}

fn wildcard_plan(filters: u32, subscribers: u32, publishers: u32) -> Result<Vec<Plan>, LoadError> {
    let groups = filters / MATCHES;
    if groups == 0 || subscribers < MATCHES {
        return Err(LoadError::Scenario(
            "wildcards need at least 3 filters and 3 subscribers",
        ));
    }
    at_least_one(publishers)?;
    let publishers = publishers.min(groups);
    let mut plan = Plan {
        deliveries_per_message: MATCHES,
        ..Plan::default()
    };
    for _ in 0..subscribers {
        plan.subscribers.push(SubscriberPlan {
            filters: Vec::new(),
            flows: 0..publishers,
        });
    }
    for _ in 0..publishers {
        plan.publishers.push(PublisherPlan { topics: Vec::new() });
    }
    let mut next_subscriber = (0..plan.subscribers.len()).cycle();
    for (group, publisher) in (0..groups).zip((0..plan.publishers.len()).cycle()) {
        if let Some(publisher) = plan.publishers.get_mut(publisher) {
            publisher.topics.push(format!("load/{group:07}/room/value"));
        }
        for filter in [
            format!("load/{group:07}/+/value"),
            format!("+/{group:07}/room/value"),
            format!("load/{group:07}/#"),
        ] {
            let subscriber = next_subscriber
                .next()
                .and_then(|i| plan.subscribers.get_mut(i));
            if let Some(subscriber) = subscriber {
                subscriber.filters.push(filter);
            }
        }
    }
    Ok(vec![plan])
}

fn store_plan(topics: u32, publishers: u32) -> Result<Vec<Plan>, LoadError> {
    at_least_one(topics)?;
    let publishers = publishers.clamp(1, topics);
    let mut plan = Plan::default();
    for publisher in 0..publishers {
        let step = usize::try_from(publishers).unwrap_or(1);
        let topics = (publisher..topics).step_by(step).map(stored_topic);
        plan.publishers.push(PublisherPlan {
            topics: topics.collect(),
        });
    }
    Ok(vec![plan])
}

/// A topic of [`Shape::Store`].
pub(crate) fn stored_topic(number: u32) -> String {
    format!("load/retained/{number:07}")
}

/// Connections that do not know each other, spread over the threads.
fn alone(count: u32, threads: u32, add: impl Fn(&mut Plan, u32)) -> Result<Vec<Plan>, LoadError> {
    at_least_one(count)?;
    let threads = usize::try_from(threads.clamp(1, count)).unwrap_or(1);
    let mut plans = vec![Plan::default(); threads];
    for (index, plan) in (0..count).zip((0..threads).cycle()) {
        if let Some(plan) = plans.get_mut(plan) {
            add(plan, index);
        }
    }
    Ok(plans)
}

fn numbered(topic: &str, index: u32) -> String {
    topic.replace("%i", &index.to_string())
}

fn at_least_one(count: u32) -> Result<usize, LoadError> {
    match usize::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        Ok(_) | Err(_) => Err(LoadError::Scenario(
            "a scenario needs at least one connection",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_over_threads_with_flows_counted_per_thread() {
        let plans = Shape::Pairs { pairs: 5 }.plans("", 2).expect("fits");
        let sizes: Vec<_> = plans.iter().map(|plan| plan.publishers.len()).collect();
        assert_eq!(sizes, [3, 2]);
        for plan in &plans {
            for (flow, (publisher, subscriber)) in
                (0..).zip(plan.publishers.iter().zip(&plan.subscribers))
            {
                assert_eq!(publisher.topics, subscriber.filters);
                assert_eq!(subscriber.flows, flow..flow + 1);
            }
        }
    }

    #[test]
    fn each_wildcard_topic_matches_three_filters_of_three_subscribers() {
        let shape = Shape::Wildcards {
            filters: 30,
            subscribers: 4,
            publishers: 3,
        };
        let plans = shape.plans("", 1).expect("fits");
        let plan = plans.first().expect("one thread");
        assert_eq!(
            plan.subscribers
                .iter()
                .map(|s| s.filters.len())
                .sum::<usize>(),
            30
        );
        for topic in plan
            .publishers
            .iter()
            .flat_map(|publisher| &publisher.topics)
        {
            let matched: Vec<usize> = plan
                .subscribers
                .iter()
                .map(|s| {
                    s.filters
                        .iter()
                        .filter(|filter| matches(filter, topic))
                        .count()
                })
                .filter(|count| *count > 0)
                .collect();
            assert_eq!(matched, [1, 1, 1], "{topic}");
        }
    }

    #[test]
    fn stored_topics_are_all_different_and_complete() {
        let plans = Shape::Store {
            topics: 10,
            publishers: 3,
        }
        .plans("", 1)
        .expect("fits");
        let mut topics: Vec<_> = plans
            .iter()
            .flat_map(|p| &p.publishers)
            .flat_map(|p| &p.topics)
            .collect();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), 10);
    }

    #[test]
    fn those_who_are_alone_are_numbered() {
        let shape = Shape::Publishers { publishers: 3 };
        let plans = shape.plans("a/%i/b", 2).expect("fits");
        let topics: Vec<_> = plans
            .iter()
            .map(|plan| {
                plan.publishers
                    .iter()
                    .flat_map(|p| p.topics.clone())
                    .collect()
            })
            .collect::<Vec<Vec<String>>>();
        assert_eq!(topics, [vec!["a/0/b", "a/2/b"], vec!["a/1/b"]]);
    }

    #[test]
    fn empty_scenarios_are_refused() {
        for shape in [
            Shape::Pairs { pairs: 0 },
            Shape::FanOut { subscribers: 0 },
            Shape::FanIn { publishers: 0 },
            Shape::Publishers { publishers: 0 },
            Shape::Subscribers { subscribers: 0 },
            Shape::Wildcards {
                filters: 2,
                subscribers: 3,
                publishers: 1,
            },
            Shape::Store {
                topics: 0,
                publishers: 1,
            },
        ] {
            assert!(
                matches!(shape.plans("", 1), Err(LoadError::Scenario(_))),
                "{shape:?}"
            );
        }
    }

    fn matches(filter: &str, topic: &str) -> bool {
        let mut topic = topic.split('/');
        for level in filter.split('/') {
            match (level, topic.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (exact, Some(found)) if exact == found => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}
