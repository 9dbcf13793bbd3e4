//! MQS
