//! The list of scenarios, for the tests of one library.

/// One test a scenario and version, with a library on both sides.
///
/// A macro because the test harness wants a function of its own for each.
#[macro_export]
macro_rules! scenario_tests {
    ($library:expr) => {
        $crate::scenario_tests!(
            $library;
            each_qos_arrives_at_the_lower_of_the_two,
            payloads_arrive_unchanged,
            a_burst_arrives_complete_and_in_order,
            a_persistent_session_is_resumed_with_its_queue,
            retained_messages_greet_new_subscribers,
            a_will_is_published_when_the_connection_is_lost,
            wildcards_match_as_the_standard_says,
            unsubscribing_ends_delivery,
            a_second_connection_takes_the_session_over;
            retain_options_are_followed,
            a_shared_subscription_gives_each_message_to_one_member,
            properties_arrive_unchanged,
            a_request_gets_its_response,
            expired_messages_are_not_delivered,
            topic_aliases_stand_for_topics,
            no_local_spares_a_client_its_own_messages,
            overlapping_subscriptions_get_one_copy_with_every_identifier
        );
    };
    ($library:expr; $($both:ident),+; $($v5_only:ident),+) => {
        mod v311 {
            use super::*;
            $(#[test]
            fn $both() {
                use $crate::{peer::Version, scenarios};
                scenarios::play(scenarios::$both, $library, $library, Version::V311);
            })+
        }
        mod v5 {
            use super::*;
            $(#[test]
            fn $both() {
                use $crate::{peer::Version, scenarios};
                scenarios::play(scenarios::$both, $library, $library, Version::V5);
            })+
            $(#[test]
            fn $v5_only() {
                use $crate::{peer::Version, scenarios};
                scenarios::play(scenarios::$v5_only, $library, $library, Version::V5);
            })+
        }
    };
}
